"""Reconstruction of the features that a query was given (UP-DETR)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..ops.mlp import MLP
from ..registry import MODELS
from .losses import Loss, sum_of_pairs
from .matched import Matched


@MODELS.register_module()
class FeatureReconstructionLoss(Loss):
    """Squared distance of the feature that a query predicts and that of the patch it is matched with
    (UP-DETR, equation 3).

    A perceptron predicts the feature from the content. Both features have unit length. The distance is
    summed over channels and pairs.

    Args:
        feature_dims: channels of the feature.
        value: name of the feature among the values of the objects; the term does not apply to queries
            whose objects have no values.
    """

    def __init__(
        self,
        feature_dims: int,
        embed_dims: int = 256,
        loss_weight: float = 1.0,
        value: str = 'patch_feature',
    ) -> None:
        super().__init__(loss_weight)
        self.value = value
        self.align = MLP(embed_dims, embed_dims, feature_dims, 2)

    def forward(self, matched: Matched) -> Tensor:
        if matched.hidden is None:
            return matched.logits.new_zeros(0)
        predicted = self.align(matched.hidden)
        if not matched.source.targets.values:  # images without patches: nothing to reconstruct
            return predicted.sum((1, 2)) * 0
        target = matched.value(self.value)
        distance = F.normalize(predicted, dim=-1) - F.normalize(target, dim=-1)
        return self.loss_weight * sum_of_pairs(distance.square().sum(-1), matched)

"""Losses whose targets are the outputs of a trained model, query by query.

Zheng et al., arXiv:2011.09315, fine-tune a clustering transformer with the outputs of the original
DETR. Their code has no such losses; these follow the description: soft targets for classes and boxes,
and a term for features. ``model.teacher`` names the trained model.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor
from torch.nn import functional as F

from ..ops.precision import full_precision
from ..registry import MODELS
from .losses import Loss
from .matched import Matched


class DistillationLoss(Loss):
    """A term that compares ``kind`` of all queries with the teacher's; a mean over images and queries.

    It does not apply where the teacher gives nothing.
    """

    kind: str

    def forward(self, matched: Matched) -> Tensor:
        source = matched.source
        theirs, own = source.extra.get(f'teacher_{self.kind}'), getattr(source, self.kind)
        if theirs is None or own is None:
            return matched.logits.new_zeros(0)
        loss = self.distance(full_precision(own), full_precision(theirs))
        return self.loss_weight * loss.flatten(1).mean(1)

    @abstractmethod
    def distance(self, own: Tensor, theirs: Tensor) -> Tensor:
        """(L, B, N) of tensors (L, B, N, ...)."""


@MODELS.register_module()
class DistillationClassLoss(DistillationLoss):
    """Cross-entropy with the teacher's probabilities, less its smallest value, which is the teacher's
    entropy.

    Args:
        softmax: of probabilities that sum to 1; False: of each class by itself.
    """

    kind = 'logits'

    def __init__(self, loss_weight: float = 1.0, softmax: bool = True) -> None:
        super().__init__(loss_weight)
        self.softmax = softmax

    def distance(self, own: Tensor, theirs: Tensor) -> Tensor:
        if self.softmax:
            pair = own.log_softmax(-1), theirs.log_softmax(-1)
            return F.kl_div(*pair, reduction='none', log_target=True).sum(-1)
        target = theirs.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(theirs, target, reduction='none')
        return (F.binary_cross_entropy_with_logits(own, target, reduction='none') - entropy).sum(-1)


@MODELS.register_module()
class DistillationBoxLoss(DistillationLoss):
    """Sum of absolute differences of the boxes, cxcywh in 0..1."""

    kind = 'boxes'

    def distance(self, own: Tensor, theirs: Tensor) -> Tensor:
        return (own - theirs).abs().sum(-1)


@MODELS.register_module()
class DistillationFeatureLoss(DistillationLoss):
    """Mean squared difference of the contents that the predictions are read from."""

    kind = 'hidden'

    def distance(self, own: Tensor, theirs: Tensor) -> Tensor:
        return (own - theirs).square().mean(-1)

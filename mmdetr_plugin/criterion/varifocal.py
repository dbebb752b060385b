"""A class loss whose target is the IoU of the predicted box."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..registry import MODELS
from .losses import Loss
from .matched import Matched
from .quality import class_logits


@MODELS.register_module()
class VarifocalClassLoss(Loss):
    """Varifocal loss (Zhang et al., "VarifocalNet", CVPR 2021, equation 2), summed over queries and
    classes.

    The target of a matched query is the IoU q of its box with that of its object in the class of the
    object, and 0 in the others. Cross-entropy has the weight q there, alpha p^gamma for the others,
    where p is the probability; the weights have no gradient.
    """

    def __init__(self, loss_weight: float = 1.0, alpha: float = 0.75, gamma: float = 2.0) -> None:
        super().__init__(loss_weight)
        self.alpha, self.gamma = alpha, gamma

    def forward(self, matched: Matched) -> Tensor:
        quality, logits = matched.iou, class_logits(matched)
        positives = self.of_pairs(logits, quality) - self.of_background(logits)
        loss = self.of_background(matched.logits).sum(-1)
        if matched.trained is not None and matched.weights is not None:
            loss, positives = loss * matched.trained, positives * matched.weights
        return self.loss_weight * (loss.sum(1) + positives.sum(1)) / matched.num_boxes

    def of_pairs(self, logits: Tensor, quality: Tensor) -> Tensor:
        """Loss of logits (L, M) in the classes of the objects, of boxes with the IoU ``quality``."""
        return quality * F.binary_cross_entropy_with_logits(logits, quality, reduction='none')

    def of_background(self, logits: Tensor) -> Tensor:
        """Loss of logits (...) whose target is 0: (...)."""
        weight = self.alpha * logits.detach().sigmoid() ** self.gamma
        return weight * F.softplus(logits)


@MODELS.register_module()
class MatchabilityAwareClassLoss(VarifocalClassLoss):
    """MAL: the target of a matched query is q^gamma, with the weight 1, so that pairs of a small IoU
    count as much as others (Huang et al., "DEIM", CVPR 2025, equation 3).

    See :class:`VarifocalClassLoss`; the weight of the other classes is p^gamma.
    """

    def __init__(self, loss_weight: float = 1.0, gamma: float = 1.5) -> None:
        super().__init__(loss_weight, alpha=1.0, gamma=gamma)

    def of_pairs(self, logits: Tensor, quality: Tensor) -> Tensor:
        target = quality**self.gamma
        return F.binary_cross_entropy_with_logits(logits, target, reduction='none')

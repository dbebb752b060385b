"""The class loss of LW-DETR and RF-DETR, whose targets are mixed from score and overlap."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..ops.focal import focal_of_negatives
from ..registry import MODELS
from .losses import Loss, sum_of_pairs
from .matched import Matched
from .quality import class_logits


@MODELS.register_module()
class IoUAwareClassLoss(Loss):
    """IoU-aware binary cross-entropy (LW-DETR, section 3.3; after Align-DETR).

    The target t of a matched query in the class of its object is ``score^alpha * IoU^(1 - alpha)``, at
    least 0.01 and without a gradient; its loss is ``-t log p - (1 - t) log(1 - p)``. Other entries
    have target 0 and the weight p^2. The sum is divided by the number of objects.

    Args:
        alpha: share of the score in the target.
    """

    def __init__(self, loss_weight: float = 1.0, alpha: float = 0.25) -> None:
        super().__init__(loss_weight)
        self.alpha = alpha

    def forward(self, matched: Matched) -> Tensor:
        logits = class_logits(matched)
        score = logits.detach().sigmoid()
        target = (score**self.alpha * matched.iou ** (1 - self.alpha)).clamp(min=0.01)
        positives = F.binary_cross_entropy_with_logits(logits, target, reduction='none')
        positives = positives - focal_of_negatives(logits, 2.0)
        negatives = focal_of_negatives(matched.logits, 2.0).sum(-1)
        if matched.trained is not None:
            negatives = negatives * matched.trained
        total = negatives.sum(1) / matched.num_boxes + sum_of_pairs(positives, matched)
        return self.loss_weight * total

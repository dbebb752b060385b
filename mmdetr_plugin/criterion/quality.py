"""Losses whose targets are the quality of each pair: its class score and its overlap (TOOD; DDQ)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..ops.boxes import cxcywh_to_xyxy, elementwise_giou
from ..ops.focal import focal_of_negatives
from ..registry import MODELS
from .distributed import mean_over_ranks
from .losses import Loss
from .matched import Matched


class QualityLoss(Loss):
    """A term that weighs every pair by its quality (Feng et al., "TOOD", ICCV 2021, equation 4).

    Where an object has several queries (``Targets.repeat``), the best of them has its IoU as quality.

    Args:
        alpha, beta: powers of the class probability and of the IoU in the alignment of a pair.
    """

    def __init__(self, loss_weight: float = 1.0, alpha: float = 1.0, beta: float = 6.0) -> None:
        super().__init__(loss_weight)
        self.alpha, self.beta = alpha, beta

    def quality(self, matched: Matched) -> Tensor:
        """(L, M), in 0..1: alignments, scaled so that the largest of an object is its largest IoU."""
        logits = class_logits(matched).detach()
        aligned = logits.sigmoid() ** self.alpha * matched.iou**self.beta
        numbers = matched.objects
        total = matched.source.targets.padded_labels.numel()

        def largest(values: Tensor) -> Tensor:
            most = values.new_zeros(len(values), total)
            return most.scatter_reduce(1, numbers, values, 'amax').gather(1, numbers)

        return aligned / (largest(aligned) + 1e-7) * largest(matched.iou)

    @staticmethod
    def normalizer(quality: Tensor) -> Tensor:
        """(L,): sum of the qualities, averaged over processes, at least 1."""
        return mean_over_ranks(quality.sum(1)).clamp(min=1)


@MODELS.register_module()
class QualityClassLoss(QualityLoss):
    """Quality focal loss (Li et al., "Generalized Focal Loss", NeurIPS 2020, equation 7).

    The target of a matched query is its quality in the class of its object and 0 in the others.

    Args:
        gamma: power of the distance between probability and target.
        alpha, beta: see :class:`QualityLoss`.
    """

    def __init__(
        self, loss_weight: float = 1.0, gamma: float = 2.0, alpha: float = 1.0, beta: float = 6.0
    ) -> None:
        super().__init__(loss_weight, alpha, beta)
        self.gamma = gamma

    def forward(self, matched: Matched) -> Tensor:
        quality = self.quality(matched)
        logits = class_logits(matched)
        distance = (quality - logits.sigmoid()).abs().pow(self.gamma)
        positives = F.binary_cross_entropy_with_logits(logits, quality, reduction='none') * distance
        positives = positives - focal_of_negatives(logits, self.gamma)
        loss = focal_of_negatives(matched.logits, self.gamma).sum(-1)
        if matched.trained is not None and matched.weights is not None:
            loss, positives = loss * matched.trained, positives * matched.weights
        total = loss.sum(1) + positives.sum(1)
        return self.loss_weight * total / self.normalizer(quality)


@MODELS.register_module()
class QualityGIoULoss(QualityLoss):
    """1 - generalised IoU of the pairs, each weighted by its quality."""

    def forward(self, matched: Matched) -> Tensor:
        quality = self.quality(matched)
        boxes = cxcywh_to_xyxy(matched.boxes), cxcywh_to_xyxy(matched.target_boxes)
        loss = (1 - elementwise_giou(*boxes)) * quality
        if matched.weights is not None:
            loss = loss * matched.weights
        return self.loss_weight * loss.sum(1) / self.normalizer(quality)


def class_logits(matched: Matched) -> Tensor:
    """(L, M): the logit of each pair's query in the class of its object."""
    width = matched.logits.shape[-1]
    return matched.logits.flatten(1).gather(1, matched.query * width + matched.labels)

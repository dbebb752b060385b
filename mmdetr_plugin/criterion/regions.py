"""Losses of queries that are proposed regions (TSP-RCNN)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..heads.final_head import STD
from ..ops.boxes import cxcywh_to_xyxy, elementwise_giou
from ..registry import MODELS
from .candidates import Candidates
from .losses import Loss
from .matched import Matched


def sampled(candidates: Candidates) -> Tensor:
    """(B, N), True for regions, False for padding."""
    trained = candidates.source.branch.trained
    return torch.ones_like(candidates.present) if trained is None else trained


@MODELS.register_module()
class RegionClassLoss(Loss):
    """Cross-entropy with a last column for background, in which easy background counts little.

    Regions without an object have the weight ``background_weight`` times 2 (1 - p)^2, p being their
    probability of background (TSP's code).
    """

    def __init__(self, loss_weight: float = 1.0, background_weight: float = 0.1) -> None:
        super().__init__(loss_weight)
        self.background_weight = background_weight

    def forward(self, matched: Matched) -> Tensor:
        candidates = Candidates.of(matched.source)
        logits, found = candidates.logits, candidates.matched(matched)
        background = logits.shape[-1] - 1
        target = torch.where(found, candidates.labels, background)
        loss = F.cross_entropy(logits.movedim(-1, 1), target, reduction='none')
        with torch.no_grad():
            hard = 2 * (1 - logits.softmax(-1)[..., -1]).square()
            plain = torch.where(found, 1.0, self.background_weight) * sampled(candidates)
            weight = torch.where(found, plain, plain * hard)
        return (
            self.loss_weight * (loss * weight).flatten(1).sum(1) / (plain.flatten(1).sum(1) + 1e-6)
        )


class RegionBoxLoss(Loss):
    """A term of the boxes of all candidates, divided by the number of regions."""

    def forward(self, matched: Matched) -> Tensor:
        candidates = Candidates.of(matched.source)
        loss = self.of_boxes(candidates) * candidates.present
        return self.loss_weight * loss.flatten(1).sum(1) / sampled(candidates).sum().clamp(min=1)

    def of_boxes(self, candidates: Candidates) -> Tensor:
        """(L, B, N), unweighted."""
        raise TypeError(f'{type(self).__name__} must define of_boxes(candidates)')


@MODELS.register_module()
class RegionDeltaLoss(RegionBoxLoss):
    """Sum of absolute differences of the move of a region and that to its object."""

    def of_boxes(self, candidates: Candidates) -> Tensor:
        region, box = candidates.extra('region'), candidates.boxes
        size = region[..., 2:].clamp(min=1e-6)
        moves = (box[..., :2] - region[..., :2]) / size, (box[..., 2:] / size).clamp(min=1e-6).log()
        target = torch.cat(moves, -1) / region.new_tensor(STD)
        return (candidates.at_labels(candidates.extra('deltas')) - target).abs().sum(-1)


@MODELS.register_module()
class RegionGIoULoss(RegionBoxLoss):
    """1 - generalised IoU of the box of the object's class and the object."""

    def of_boxes(self, candidates: Candidates) -> Tensor:
        boxes = cxcywh_to_xyxy(candidates.at_labels(candidates.extra('unclipped')))
        return 1 - elementwise_giou(boxes, cxcywh_to_xyxy(candidates.boxes).expand_as(boxes))

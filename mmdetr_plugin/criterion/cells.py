"""Losses and costs of queries that are cells of feature maps (TSP-FCOS)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..ops.boxes import cxcywh_to_xyxy
from ..ops.focal import focal_of_negatives
from ..registry import MODELS, TASK_UTILS
from .candidates import CandidateCost, Candidates
from .distributed import mean_over_ranks
from .losses import Loss
from .matched import Matched


def target_distances(candidates: Candidates) -> Tensor:
    """(L, B, N, 4): from the centre of each cell to the sides of its object, in cells."""
    x, y, width, height = candidates.extra('cell').unbind(-1)
    left, top, right, bottom = cxcywh_to_xyxy(candidates.boxes).unbind(-1)
    sides = ((x - left) / width, (y - top) / height, (right - x) / width, (bottom - y) / height)
    return torch.stack(sides, -1).clamp(min=0)


def centrality(distances: Tensor) -> Tensor:
    """(...), 1 in the middle of a box and 0 at its sides, of distances (..., 4) (FCOS, equation 3)."""
    left, top, right, bottom = distances.unbind(-1)

    def ratio(a: Tensor, b: Tensor) -> Tensor:
        return torch.minimum(a, b) / torch.maximum(a, b).clamp(min=1e-6)

    return (ratio(left, right) * ratio(top, bottom)).sqrt()


def distance_giou(pred: Tensor, target: Tensor) -> Tensor:
    """Generalised IoU (...) of boxes around one point given by distances (..., 4); 1 is added to
    intersection and union, in cells (AdelaiDet's code)."""
    smaller, larger = torch.minimum(pred, target), torch.maximum(pred, target)
    intersection, hull = area(smaller), area(larger)
    union = area(pred) + area(target) - intersection
    overlap = (intersection + 1) / (union + 1)
    return overlap - (hull - union) / hull.clamp(min=1e-6)


def area(distances: Tensor) -> Tensor:
    left, top, right, bottom = distances.unbind(-1)
    return (left + right) * (top + bottom)


@TASK_UTILS.register_module()
class CentralClassCost(CandidateCost):
    """Minus the probability of the object's class times how central the cell is."""

    def __call__(self, candidates: Candidates) -> Tensor:
        score = candidates.at_labels(candidates.logits).sigmoid()
        return -self.weight * score * (centrality(target_distances(candidates)) + 1e-6)


@TASK_UTILS.register_module()
class DistanceGIoUCost(CandidateCost):
    """1 - generalised IoU of the predicted distances and those to the object."""

    def __call__(self, candidates: Candidates) -> Tensor:
        giou = distance_giou(candidates.extra('distances'), target_distances(candidates))
        return self.weight * (1 - giou)


class CellLoss(Loss):
    """A term of the last layer's candidates; it needs what ``DistanceHead`` predicts."""

    def forward(self, matched: Matched) -> Tensor:
        return self.loss_weight * self.of_candidates(Candidates.of(matched.source), matched)

    def of_candidates(self, candidates: Candidates, matched: Matched) -> Tensor:
        """(L,), unweighted."""
        raise TypeError(f'{type(self).__name__} must define of_candidates(candidates, matched)')


def mean_count(mask: Tensor) -> Tensor:
    """(L,): True entries of (L, B, N), averaged over processes, at least 1."""
    return mean_over_ranks(mask.flatten(1).sum(1).float()).clamp(min=1)


@MODELS.register_module()
class CandidateFocalLoss(CellLoss):
    """Focal loss of all queries, in which candidates that were not matched count little in the column
    of their object (TSP's code).

    Args:
        unmatched_weight: of these columns.
        alpha, gamma: of the focal loss.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        unmatched_weight: float = 0.1,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        super().__init__(loss_weight)
        self.unmatched_weight, self.alpha, self.gamma = unmatched_weight, alpha, gamma

    def of_candidates(self, candidates: Candidates, matched: Matched) -> Tensor:
        logits, found = candidates.logits, candidates.matched(matched)
        present = candidates.present.expand_as(found)
        column = F.one_hot(candidates.labels, logits.shape[-1]).bool()
        positive, spared = column & found[..., None], column & (present & ~found)[..., None]
        loss = focal_of_negatives(torch.where(positive, -logits, logits), self.gamma)
        loss = loss * torch.where(positive, self.alpha, 1 - self.alpha)
        loss = loss * torch.where(spared, self.unmatched_weight, 1.0)
        number = mean_count(found) + self.unmatched_weight * mean_count(present)
        return loss.flatten(1).sum(1) / (2 * number)


@MODELS.register_module()
class DistanceGIoULoss(CellLoss):
    """1 - generalised IoU of all candidates, weighted by how central they are."""

    def of_candidates(self, candidates: Candidates, matched: Matched) -> Tensor:
        target = target_distances(candidates)
        weight = centrality(target) * candidates.present
        loss = (1 - distance_giou(candidates.extra('distances'), target)) * weight
        total = mean_over_ranks(weight.flatten(1).sum(1)).clamp(min=1e-6)
        return loss.flatten(1).sum(1) / total


@MODELS.register_module()
class CentralityLoss(CellLoss):
    """Cross-entropy of how central a candidate is; the prediction is not used afterwards."""

    def of_candidates(self, candidates: Candidates, matched: Matched) -> Tensor:
        pred, target = candidates.extra('central'), centrality(target_distances(candidates))
        loss = F.binary_cross_entropy_with_logits(pred, target, reduction='none')
        present = candidates.present.expand_as(loss)
        return (loss * present).flatten(1).sum(1) / mean_count(present)

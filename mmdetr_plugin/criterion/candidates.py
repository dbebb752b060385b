"""Matching in which each query may only be matched with one given object (TSP)."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ..build import build_slot
from ..ops.boxes import cxcywh_to_xyxy, elementwise_giou
from ..ops.precision import full_precision
from ..registry import TASK_UTILS
from .assigner import Assigner
from .matched import Matched
from .sources import Matches, Source


@dataclass(frozen=True)
class Candidates:
    """The queries of L layers, B images and N queries, and the object that each may be matched with.

    Attributes:
        source: the predictions.
        present: (B, N), False for queries that may not be matched.
        objects: (B, N), 0 where there is none.
        labels: (B, N), classes of the objects.
        boxes: (B, N, 4), boxes of the objects, cxcywh; a box inside the image where there is none.
    """

    source: Source
    present: Tensor
    objects: Tensor
    labels: Tensor
    boxes: Tensor

    @classmethod
    def of(cls, source: Source) -> Candidates:
        """Read ``Branch.candidates``.

        Raises:
            ValueError: the queries state none.
        """
        given = source.branch.candidates
        if given is None:
            raise ValueError(
                'this assigner and its losses need queries that state candidates, got none; set '
                'queries to FeaturesOfInterest or RegionProposals, or use a HungarianAssigner'
            )
        objects, targets = given.clamp(min=0), source.targets
        if not max(targets.counts):
            boxes = torch.full((*given.shape, 4), 0.5, device=given.device)
            return cls(source, given >= 0, objects, torch.zeros_like(objects), boxes)
        labels = targets.padded_labels.gather(1, objects)
        boxes = targets.padded_boxes.gather(1, objects[..., None].expand(-1, -1, 4))
        return cls(source, given >= 0, objects, labels, boxes)

    @property
    def logits(self) -> Tensor:
        """(L, B, N, K)."""
        return full_precision(self.source.logits)

    def extra(self, name: str) -> Tensor:
        """(L, B, N, ...), a further prediction."""
        return full_precision(self.source.extra[name])

    def at_labels(self, values: Tensor) -> Tensor:
        """(L, B, N, ...): the values (L, B, N, K, ...) of the classes of the objects."""
        tail = values.shape[4:]
        index = self.labels.expand(values.shape[:3])[..., None]
        index = index.view(*index.shape, *(1,) * len(tail)).expand(*values.shape[:3], 1, *tail)
        return values.gather(3, index).squeeze(3)

    def matched(self, matched: Matched) -> Tensor:
        """(L, B, N), True for queries that have an object."""
        flat = matched.query.new_zeros(len(matched.query), self.present.numel(), dtype=torch.bool)
        return flat.scatter(1, matched.query, True).unflatten(1, self.present.shape)


class CandidateCost:
    """A term of the cost of a query and its object: ``cost(candidates) -> (L, B, N)``."""

    term = 'candidate'

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    @abstractmethod
    def __call__(self, candidates: Candidates) -> Tensor:
        """(L, B, N); values of queries without an object do not matter."""


@TASK_UTILS.register_module()
class CandidateClassCost(CandidateCost):
    """Minus the softmax probability of the object's class (TSP-RCNN)."""

    def __call__(self, candidates: Candidates) -> Tensor:
        return -self.weight * candidates.at_labels(candidates.logits.softmax(-1))


@TASK_UTILS.register_module()
class CandidateGIoUCost(CandidateCost):
    """1 - generalised IoU of the object and the box of its class (TSP-RCNN)."""

    def __call__(self, candidates: Candidates) -> Tensor:
        boxes = cxcywh_to_xyxy(candidates.at_labels(candidates.extra('unclipped')))
        giou = elementwise_giou(boxes, cxcywh_to_xyxy(candidates.boxes).expand_as(boxes))
        return self.weight * (1 - giou)


@TASK_UTILS.register_module()
class CandidateAssigner(Assigner):
    """Each object gets the cheapest of the queries that may be matched with it (TSP, section 4.4).

    A query may be matched with one object at most, so no matching costs less. An object without such a
    query stays unmatched.

    Args:
        costs: configs of :class:`CandidateCost`.

    Raises:
        ValueError: there is none.
    """

    def __init__(self, costs: Sequence[Mapping[str, Any]]) -> None:
        if not costs:
            raise ValueError('costs must name at least one cost, got an empty list; add one')
        self.costs: list[CandidateCost] = [
            build_slot(TASK_UTILS, cfg, f'costs.{i}') for i, cfg in enumerate(costs)
        ]

    @torch.no_grad()
    def match(self, sources: Sequence[Source], num_classes: int) -> list[Matches]:
        made = []
        for source in sources:
            status = source.targets.status(num_classes)
            source.targets.check_labels(status.cpu().numpy(), num_classes)
            made.append(self._match(Candidates.of(source)))
        return made

    def _match(self, candidates: Candidates) -> Matches:
        source, targets = candidates.source, candidates.source.targets
        layers, images, number = source.logits.shape[:3]
        slots = max(targets.counts, default=0)
        objects = tuple(targets.is_object.sum(1).tolist()) if slots else (0,) * images
        cost = reduce(operator.add, (term(candidates) for term in self.costs))
        # A cost that is not a number must not win.
        cost = cost.nan_to_num(torch.inf, torch.inf, torch.inf)[..., None]
        every = torch.arange(slots, device=cost.device)
        may = candidates.present[..., None] & (candidates.objects[..., None] == every)
        may = may & targets.is_object[:, None] if slots else may
        if not slots or not may.any():
            empty = torch.zeros(layers, 0, dtype=torch.long, device=cost.device)
            return Matches(empty, empty, (0,) * images, objects, number, slots)
        best = torch.where(may, cost, torch.inf).argmin(2)  # (L, B, T)
        found = (may & cost.isfinite().all(0)).any(1)  # (B, T)
        best = torch.where(found, best, 0)
        image, target = found.nonzero(as_tuple=True)
        query = image * number + best[:, image, target]
        order = query.argsort(1)
        target = (image * slots + target).expand(layers, -1)
        counts = tuple(found.sum(1).tolist())
        return Matches(
            query.gather(1, order), target.gather(1, order), counts, objects, number, slots
        )

"""Terms of the matching cost, batched over layers and images.

They take the arguments of mmdet's ``match_costs`` and give the same numbers. Any leading dimensions
are allowed: predictions (..., N), objects (..., T), costs (..., N, T).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..arguments import building, check_arguments, place_of
from ..build import build_slot
from ..ops.boxes import pairwise_giou, pairwise_iou
from ..registry import TASK_UTILS


@dataclass(frozen=True)
class CostInputs:
    """Inputs of the terms. Boxes are in 0..1, or must be divided by ``size`` if that is given."""

    logits: Tensor  # (..., N, K)
    labels: Tensor  # (..., T), within [0, K)
    pred_cxcywh: Tensor  # (..., N, 4)
    pred_xyxy: Tensor
    gt_cxcywh: Tensor  # (..., T, 4)
    gt_xyxy: Tensor
    size: Tensor | None = None  # (4,): width, height, width, height


class MatchCost:
    """A weighted term; messages call it ``term``.

    Attributes:
        reads: the field of mmdet's instances that it compares, '' if the term itself reads them.
    """

    term: str
    reads: str = ''

    @abstractmethod
    def __call__(self, inputs: CostInputs) -> Tensor:
        """(..., N, T)."""

    def of_image(
        self, inputs: CostInputs, pred: InstanceData, gt: InstanceData, img_meta: dict | None
    ) -> Tensor:
        """(N, T) for one image; ``inputs`` hold the same as mmdet's instances ``pred`` and ``gt``."""
        return self(inputs)


class FocalCost(MatchCost):
    """Focal loss of the query as the object's class, less that as background (Deformable DETR).

    Args:
        eps: keeps the logarithms finite: 1e-12 in mmdet, 1e-8 in the official code.
        of_probabilities: apply the sigmoid to the probabilities once more, as mmdet's DDQ does.
    """

    term = 'class'
    reads = 'scores'

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        eps: float = 1e-12,
        weight: float = 1.0,
        of_probabilities: bool = False,
    ) -> None:
        self.alpha, self.gamma, self.eps, self.weight = alpha, gamma, eps, weight
        self.of_probabilities = of_probabilities

    def __call__(self, inputs: CostInputs) -> Tensor:
        prob = _at_labels(inputs.logits, inputs.labels).sigmoid()
        if self.of_probabilities:
            prob = prob.sigmoid()
        background = (prob + self.eps).log()
        negative = -(1 - prob + self.eps).log() * (1 - self.alpha) * prob.pow(self.gamma)
        positive = -background * self.alpha * (1 - prob).pow(self.gamma)
        return (positive - negative) * self.weight + _nan_if_nonfinite(inputs.logits)


class SoftmaxCost(MatchCost):
    """Minus the probability of the object's class (DETR, section 3.1)."""

    term = 'class'
    reads = 'scores'

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(self, inputs: CostInputs) -> Tensor:
        prob = _at_labels(inputs.logits.softmax(-1), inputs.labels)
        return -prob * self.weight + _nan_if_nonfinite(inputs.logits)


class L1Cost(MatchCost):
    """L1 distance of boxes in 0..1; ``box_format`` 'xywh' compares centres and sizes."""

    term = 'L1'
    reads = 'bboxes'

    def __init__(self, box_format: str = 'xyxy', weight: float = 1.0) -> None:
        if box_format not in ('xyxy', 'xywh'):
            raise ValueError(f"box_format must be 'xyxy' or 'xywh', got {box_format!r}")
        self.box_format, self.weight = box_format, weight

    def __call__(self, inputs: CostInputs) -> Tensor:
        pred, gt = inputs.pred_xyxy, inputs.gt_xyxy
        if self.box_format == 'xywh':
            pred, gt = inputs.pred_cxcywh, inputs.gt_cxcywh
        if inputs.size is not None:
            pred, gt = pred / inputs.size, gt / inputs.size
        return torch.cdist(pred, gt, p=1) * self.weight


class OverlapCost(MatchCost):
    """Minus the IoU or generalised IoU."""

    reads = 'bboxes'

    def __init__(self, iou_mode: str = 'giou', weight: float = 1.0) -> None:
        if iou_mode not in ('iou', 'giou'):
            raise ValueError(f"iou_mode must be 'iou' or 'giou', got {iou_mode!r}")
        self.term = {'iou': 'IoU', 'giou': 'GIoU'}[iou_mode]
        self.overlap = {'iou': pairwise_iou, 'giou': pairwise_giou}[iou_mode]
        self.weight = weight

    def __call__(self, inputs: CostInputs) -> Tensor:
        return -self.overlap(inputs.pred_xyxy, inputs.gt_xyxy) * self.weight


class QualityCost(MatchCost):
    """Minus the score in the object's class times a power of the IoU (DEIMv2, once it has learnt to
    find objects).

    Args:
        alpha: the power.
    """

    term = 'quality'
    reads = 'bboxes'

    def __init__(self, alpha: float = 4.0, weight: float = 1.0) -> None:
        self.alpha, self.weight = alpha, weight

    def __call__(self, inputs: CostInputs) -> Tensor:
        score = _at_labels(inputs.logits, inputs.labels).sigmoid()
        overlap = pairwise_iou(inputs.pred_xyxy, inputs.gt_xyxy)
        cost = -score * overlap.pow(self.alpha) * self.weight
        return cost + _nan_if_nonfinite(inputs.logits)


class PerImageCost(MatchCost):
    """Any other cost with mmdet's interface, called for one (layer, image) at a time, which is slower.

    It gets an image of size 1 x 1, so that boxes in 0..1 are in pixels; scores are logits.
    """

    def __init__(self, cost: Any) -> None:
        self.cost = cost
        self.term = type(cost).__name__

    def of_image(
        self, inputs: CostInputs, pred: InstanceData, gt: InstanceData, img_meta: dict | None
    ) -> Tensor:
        return self.cost(pred, gt, img_meta=img_meta)

    def __call__(self, inputs: CostInputs) -> Tensor:
        lead = inputs.logits.shape[:-2]
        queries = [x.expand(*lead, *x.shape[-2:]).flatten(0, -3) for x in _predictions(inputs)]
        labels = inputs.labels.expand(*lead, -1).flatten(0, -2)
        boxes = inputs.gt_xyxy.expand(*lead, -1, -1).flatten(0, -3)
        costs = [
            self.cost(
                InstanceData(scores=scores, bboxes=pred),
                InstanceData(labels=label, bboxes=box),
                img_meta={'img_shape': (1, 1)},
            )
            for scores, pred, label, box in zip(*queries, labels, boxes, strict=True)
        ]
        return torch.stack(costs).unflatten(0, lead)


_BATCHED: dict[str, type[MatchCost]] = {
    'FocalLossCost': FocalCost,
    'ClassificationCost': SoftmaxCost,
    'BBoxL1Cost': L1Cost,
    'IoUCost': OverlapCost,
    'QualityCost': QualityCost,
}


def build_cost(cfg: Mapping[str, Any], slot: str = 'match_costs') -> MatchCost:
    """The batched term of a ``match_costs`` entry, or its own class wrapped by ``PerImageCost``."""
    kind = cfg.get('type')
    if isinstance(kind, type):
        kind = f'{kind.__module__.partition(".")[0]}.{kind.__name__}'
    scope, _, name = str(kind).rpartition('.')
    # A mask cost is the one use of FocalLossCost that is not about classes.
    if scope in ('', 'mmdet') and name in _BATCHED and not cfg.get('binary_input', False):
        arguments = {k: v for k, v in cfg.items() if k not in ('type', 'binary_input', '_scope_')}
        cls, place = _BATCHED[name], place_of(slot)
        check_arguments(cls, arguments, place)
        with building(place, name, arguments):
            return cls(**arguments)
    return PerImageCost(build_slot(TASK_UTILS, cfg, slot))


def _predictions(inputs: CostInputs) -> tuple[Tensor, Tensor]:
    return inputs.logits, inputs.pred_xyxy


def _at_labels(scores: Tensor, labels: Tensor) -> Tensor:
    """Columns of ``scores`` (..., N, K) at ``labels`` (..., T): (..., N, T)."""
    index = labels.unsqueeze(-2).expand(*scores.shape[:-1], labels.shape[-1])
    return scores.gather(-1, index)


def _nan_if_nonfinite(logits: Tensor) -> Tensor:
    """(..., N, 1): 0, or NaN where a query has a non-finite logit in any class.

    Infinite logits saturate to a finite and even attractive probability, so they must be marked.
    """
    return logits.sum(-1, keepdim=True) * 0

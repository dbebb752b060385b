"""Greedy non-maximum suppression as a torch operator, which compilers do not split."""

from __future__ import annotations

import torch
from mmcv.ops import nms
from torch import Tensor

from .precision import full_precision


def distinct(
    boxes_xyxy: Tensor, scores: Tensor, iou_threshold: float, candidates: Tensor | None = None
) -> Tensor:
    """(B, N) bool: boxes that overlap no box of a higher score, among those that remain, by more
    than ``iou_threshold``. On a GPU the program waits for it, image by image.

    Args:
        boxes_xyxy: (B, N, 4).
        scores: (B, N).
        candidates: (B, N) bool, False for boxes that are out from the start; None = none is.
    """
    if candidates is None:
        candidates = torch.ones_like(scores, dtype=torch.bool)
    boxes_xyxy, scores = full_precision(boxes_xyxy.detach()), full_precision(scores.detach())
    return _operator(boxes_xyxy, scores, candidates, iou_threshold)


def apart(boxes_xyxy: Tensor, groups: Tensor) -> Tensor:
    """Boxes (B, N, 4) moved so that those of different groups (B, N), whole numbers >= 0, do not
    overlap, as in mmcv's ``batched_nms``."""
    step = boxes_xyxy.amax((1, 2), keepdim=True) + 1
    return boxes_xyxy + groups[..., None].to(boxes_xyxy.dtype) * step


def _distinct(boxes: Tensor, scores: Tensor, candidates: Tensor, iou_threshold: float) -> Tensor:
    kept = torch.zeros_like(candidates)
    for image, chosen in enumerate(candidates):
        index = chosen.nonzero().squeeze(1)
        # mmcv's operator is in single precision alone.
        _, order = nms(boxes[image, index].float(), scores[image, index].float(), iou_threshold)
        kept[image, index[order]] = True
    return kept


_operator = torch.library.custom_op(
    'mmdetr_plugin::distinct',
    _distinct,
    mutates_args=(),
    schema='(Tensor boxes, Tensor scores, Tensor candidates, float iou_threshold) -> Tensor',
)


@_operator.register_fake
def _(boxes: Tensor, scores: Tensor, candidates: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty_like(candidates)

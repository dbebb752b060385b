"""Box formats and overlaps in pure torch.

``cxcywh`` is (centre x, centre y, width, height), ``xyxy`` is (left, top, right, bottom). Overlaps
do not depend on the frame (0..1 or pixels), as long as both arguments share it.
"""

import torch
from torch import Tensor


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) to (..., 4)."""
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack((cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h), -1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """(..., 4) to (..., 4)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), -1)


def pairwise_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 0.0) -> Tensor:
    """IoU of boxes (..., N, 4) with boxes (..., T, 4), both xyxy: (..., N, T)."""
    intersection, union, _ = _areas(*_pairs(boxes1, boxes2))
    return _ratio(intersection, union, eps)


def pairwise_giou(boxes1: Tensor, boxes2: Tensor, eps: float = 0.0) -> Tensor:
    """Generalised IoU of boxes (..., N, 4) with boxes (..., T, 4), both xyxy: (..., N, T)."""
    return _giou(*_pairs(boxes1, boxes2), eps)


def elementwise_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 0.0) -> Tensor:
    """IoU of corresponding boxes, both (..., 4) xyxy: (...)."""
    intersection, union, _ = _areas(boxes1.unbind(-1), boxes2.unbind(-1))
    return _ratio(intersection, union, eps)


def elementwise_giou(boxes1: Tensor, boxes2: Tensor, eps: float = 0.0) -> Tensor:
    """Generalised IoU of corresponding boxes, both (..., 4) xyxy: (...).

    Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019. ``eps`` is added to the
    denominators, as DAB-DETR does (1e-6).
    """
    return _giou(boxes1.unbind(-1), boxes2.unbind(-1), eps)


# Coordinates are passed as four separate tensors, so no temporary has a last dimension of 2 or 4.
# This makes the functions fast for (layers, images, queries, objects).
_Corners = tuple[Tensor, ...]


def _pairs(boxes1: Tensor, boxes2: Tensor) -> tuple[_Corners, _Corners]:
    return boxes1.unsqueeze(-2).unbind(-1), boxes2.unsqueeze(-3).unbind(-1)


def _areas(box1: _Corners, box2: _Corners) -> tuple[Tensor, Tensor, Tensor]:
    """Areas of intersection, union and smallest enclosing box."""
    left1, top1, right1, bottom1 = box1
    left2, top2, right2, bottom2 = box2
    width = (torch.minimum(right1, right2) - torch.maximum(left1, left2)).clamp(min=0)
    height = (torch.minimum(bottom1, bottom2) - torch.maximum(top1, top2)).clamp(min=0)
    intersection = width * height
    area1 = (right1 - left1) * (bottom1 - top1)
    area2 = (right2 - left2) * (bottom2 - top2)
    union = area1 + area2 - intersection
    hull_width = torch.maximum(right1, right2) - torch.minimum(left1, left2)
    hull_height = torch.maximum(bottom1, bottom2) - torch.minimum(top1, top2)
    return intersection, union, hull_width * hull_height


def _giou(box1: _Corners, box2: _Corners, eps: float) -> Tensor:
    intersection, union, hull = _areas(box1, box2)
    return _ratio(intersection, union, eps) - _ratio(hull - union, hull, eps)


def _ratio(part: Tensor, whole: Tensor, eps: float) -> Tensor:
    # The clamp matters only for 0 / 0, which two boxes without an area would give.
    return part / (whole + eps).clamp(min=torch.finfo(whole.dtype).tiny)

"""The operators of this package in terms of ONNX's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18

from ..ops import nms, regions  # noqa: F401 - registers the operators

op: Any = opset18  # its types are those of constants, not of a graph's values
INT64 = 7
"""ONNX's number of the type."""


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What ``torch.onnx.export`` takes as its ``custom_translation_table``."""
    ours = torch.ops.mmdetr_plugin
    return {ours.distinct.default: _distinct, ours.align_regions.default: _align_regions}


def _distinct(boxes: Any, scores: Any, candidates: Any, iou_threshold: float) -> Any:
    """See :func:`mmdetr_plugin.ops.nms.distinct`; scores are probabilities."""
    scores = op.Where(candidates, scores, op.Constant(value_float=-1.0))
    chosen = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        op.Constant(value_ints=[2**31 - 1]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[-0.5]),
    )  # (M, 3): image, class, box
    places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
    number = op.Shape(chosen, start=0, end=1)
    ones = op.Expand(op.Constant(value_float=1.0), number)
    marks = op.ScatterND(op.Mul(scores, op.Constant(value_float=0.0)), places, ones)
    return op.Greater(marks, op.Constant(value_float=0.5))


def _align_regions(maps: Any, places: Any, size: int) -> Any:
    """See :func:`mmdetr_plugin.ops.regions.align_regions`."""
    image = op.Gather(places, op.Constant(value_int=0), axis=1)
    return op.RoiAlign(
        maps,
        op.Gather(places, op.Constant(value_ints=[1, 2, 3, 4]), axis=1),
        op.Cast(image, to=INT64),
        coordinate_transformation_mode='half_pixel',
        mode='avg',
        output_height=size,
        output_width=size,
        sampling_ratio=0,
        spatial_scale=1.0,
    )

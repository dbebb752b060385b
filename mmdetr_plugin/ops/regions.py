"""Features of regions of a map, which exported graphs keep as one operator."""

from __future__ import annotations

import torch
from mmcv.ops import roi_align
from torch import Tensor

from .exporting import exporting


def align_regions(maps: Tensor, regions: Tensor, size: int) -> Tensor:
    """RoIAlign (He et al., "Mask R-CNN", ICCV 2017), with pixels shifted by half and as many samples
    per cell as it has pixels.

    Args:
        maps: (B, C, H, W), contiguous: mmcv's operator takes maps in channels-last order for others and
            cuts the wrong places.
        regions: (R, 5), the number of the image and (left, top, right, bottom) in cells.
        size: cells of a side of the result.

    Returns:
        (R, C, size, size).
    """
    if exporting():
        return _operator(maps, regions, size)
    return _align(maps, regions, size)


def _align(maps: Tensor, regions: Tensor, size: int) -> Tensor:
    return roi_align(maps, regions, (size, size), 1.0, 0, 'avg', True)


_operator = torch.library.custom_op(
    'mmdetr_plugin::align_regions',
    _align,
    mutates_args=(),
    schema='(Tensor maps, Tensor regions, int size) -> Tensor',
)


@_operator.register_fake
def _(maps: Tensor, regions: Tensor, size: int) -> Tensor:
    return maps.new_empty(regions.shape[0], maps.shape[1], size, size)

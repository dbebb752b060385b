"""Deformable attention that reads whole cells."""

from __future__ import annotations

from torch import Tensor

from .coordinates import scale_coordinates
from .deformable_levels import Shapes, match_precision


def sample_cells(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """As :func:`~mmdetr_plugin.ops.deformable.deformable_attention`, without interpolation.

    A location reads the cell (x W, y H), rounded, and the nearest cell of the map if that lies outside
    (RT-DETRv2's ``discrete`` sampling). Locations get no gradient.
    """
    value, locations, weights = match_precision(value, locations, weights)
    batch, queries, heads, _, points = weights.shape
    rows = value.permute(0, 2, 1, 3)  # (B, heads, S, D)
    out = value.new_zeros(batch, heads, queries, value.shape[-1])
    for i, (height, width) in enumerate(shapes):
        cells = (scale_coordinates(locations[:, :, :, i], width, height) + 0.5).long()
        x, y = cells[..., 0].clamp(0, width - 1), cells[..., 1].clamp(0, height - 1)
        start = sum(h * w for h, w in shapes[:i])
        index = (start + y * width + x).transpose(1, 2).flatten(2)  # (B, heads, N * P)
        read = rows.gather(2, index[..., None].expand(-1, -1, -1, rows.shape[-1]))
        weight = weights[:, :, :, i].transpose(1, 2)
        out = out + (read.unflatten(2, (queries, points)) * weight[..., None]).sum(3)
    return out.transpose(1, 2).flatten(2)

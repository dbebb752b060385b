"""Random memories in double precision, for tests of the parts that read them."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdetr_plugin.positions.maps import PositionEncoding
from mmdetr_plugin.structures import Memory
from mmdetr_plugin.structures.memory import Shapes

STRIDE = 8
"""Pixels per cell of the first level."""


def padding(shapes: Shapes, inside: tuple[float, float] = (0.7, 0.6)) -> list[Tensor]:
    """Masks (2, H, W) per level: the first image is whole, the second fills ``inside`` (height,
    width) of the canvas, rounded up."""
    masks = []
    for height, width in shapes:
        mask = torch.zeros(2, height, width, dtype=torch.bool)
        mask[1, -int(-height * inside[0] // 1) :] = True
        mask[1, :, -int(-width * inside[1] // 1) :] = True
        masks.append(mask)
    return masks


def make_memory(
    shapes: Shapes, width: int = 16, position: PositionEncoding | None = None
) -> Memory:
    """Two images; random codes where there is no ``position``."""
    masks = padding(shapes)
    codes = [torch.randn(*m.shape, width) for m in masks] if position is None else position(masks)
    rows = [(~m[:, :, 0]).sum(1) for m in masks]
    columns = [(~m[:, 0]).sum(1) for m in masks]
    ratios = [
        torch.stack((x / shape[1], y / shape[0]), -1)
        for x, y, shape in zip(columns, rows, shapes, strict=True)
    ]
    return Memory(
        tokens=torch.randn(2, sum(h * w for h, w in shapes), width).double(),
        pos=torch.cat([code.flatten(1, 2) for code in codes], 1).double(),
        mask=torch.cat([mask.flatten(1) for mask in masks], 1),
        shapes=shapes,
        valid_ratios=torch.stack(ratios, 1).double(),
        image_wh=STRIDE * torch.stack((columns[0], rows[0]), -1).double(),
        axis_pos=None if position is None else position.axes(masks),
    )

"""Rotary position codes of the cells of a map: queries and keys are turned by their places.

Su et al., "RoFormer", section 3.2; in two dimensions as in DINOv3 (Siméoni et al., section 3.2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Codes = tuple[Tensor, Tensor]
"""Cosine and sine of the angles, (N, D) each, of N tokens."""


def rotary_periods(dims: int, base: float, device: torch.device | None = None) -> Tensor:
    """(dims / 4,): 1 at first, and the next ones grow towards ``base``; the image is 2 long."""
    return base ** (torch.arange(0, dims, 4, device=device) / dims)


def rotary_codes(
    height: int, width: int, dims: int, base: float, still: int, device: torch.device
) -> Codes:
    """Codes of ``still`` tokens without a place, which are not turned, and of all cells, row by row.

    Args:
        dims: channels of a head. One half of the pairs turns by the row, the other by the column.
        base: see :func:`rotary_periods`.
    """
    axes = ((torch.arange(n, device=device) + 0.5) * (2 / n) - 1 for n in (height, width))
    places = torch.stack(torch.meshgrid(*axes, indexing='ij'), -1).flatten(0, 1)
    angles = 2 * math.pi * places[..., None] / rotary_periods(dims, base, device)
    angles = torch.cat((angles.new_zeros(still, dims // 2), angles.flatten(1))).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, codes: Codes) -> Tensor:
    """Turn the pairs of channels i and i + D / 2 of (..., N, D)."""
    cos, sin = codes
    first, second = x.chunk(2, -1)
    return (x * cos + torch.cat((-second, first), -1) * sin).to(x.dtype)

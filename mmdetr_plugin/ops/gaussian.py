"""Gaussian weights around points of a feature map (SMCA, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def log_gaussian(centres: Tensor, steepness: Tensor, shape: tuple[int, int]) -> Tensor:
    """Logarithm of an unnormalised Gaussian at every cell: ``-|steepness * (cell - centre)|^2 / 8``.

    Args:
        centres: (..., 2) as (x, y), in cells; 0 is the middle of the first cell.
        steepness: (..., 2) along x and y, in 1 / cells; its sign does not matter.
        shape: ``(H, W)`` of the map.

    Returns:
        (..., H * W), in row-major order.
    """
    height, width = shape
    rows = torch.arange(height, dtype=centres.dtype, device=centres.device)
    columns = torch.arange(width, dtype=centres.dtype, device=centres.device)
    x = (columns - centres[..., :1]) * steepness[..., :1]  # (..., W)
    y = (rows - centres[..., 1:]) * steepness[..., 1:]  # (..., H)
    square = y.square()[..., :, None] + x.square()[..., None, :]
    return square.flatten(-2) / -8

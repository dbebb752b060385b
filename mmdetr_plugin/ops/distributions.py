"""Sides of boxes as distributions over bins (D-FINE, section 4.1).

A side lies at a distance from the side of an initial box, in units of that box's width or height;
positive distances enlarge the box. Sides are ordered left, top, right, bottom. The authors measure in
units of width / scale; bins and distances here are theirs divided by the scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .boxes import cxcywh_to_xyxy, xyxy_to_cxcywh


def bin_distances(number: int, reach: Tensor, scale: Tensor) -> Tensor:
    """(number,): the distances of the bins, symmetric and denser in the middle (D-FINE, equation 3).

    Args:
        number: of bins, odd.
        reach, scale: one-element tensors, a and 1 / c of the paper. The outermost distances are twice
            the reach.
    """
    steps = (number - 3) // 2
    reach, scale = reach.abs().squeeze(), scale.abs().squeeze()
    exponents = torch.arange(1, steps + 1, dtype=reach.dtype, device=reach.device) / steps
    inner = ((reach * scale + 1) ** exponents - 1) / scale
    positive = torch.cat((inner, 2 * reach[None]))
    return torch.cat((-positive.flip(0), torch.zeros_like(reach)[None], positive))


def expected_distances(logits: Tensor, bins: Tensor) -> Tensor:
    """Means (..., 4) of distributions with the logits (..., 4, number) over ``bins`` (number,)."""
    return (logits.softmax(-1) * bins).sum(-1)  # autocast would round a product of matrices


def move_sides(boxes: Tensor, distances: Tensor) -> Tensor:
    """Boxes (..., 4) cxcywh with their sides moved by ``distances`` (..., 4)."""
    x, y, width, height = boxes.unbind(-1)
    left, top, right, bottom = (distances + 0.5).unbind(-1)
    corners = (x - left * width, y - top * height, x + right * width, y + bottom * height)
    return xyxy_to_cxcywh(torch.stack(corners, -1))


def side_distances(boxes: Tensor, others: Tensor) -> Tensor:
    """(..., 4): the distances that move the sides of ``boxes`` to those of ``others``, all cxcywh."""
    x, y, width, height = boxes.unbind(-1)
    width, height = (size.clamp(min=torch.finfo(size.dtype).tiny) for size in (width, height))
    left, top, right, bottom = cxcywh_to_xyxy(others).unbind(-1)
    reached = ((x - left) / width, (y - top) / height, (right - x) / width, (bottom - y) / height)
    return torch.stack(reached, -1) - 0.5


def between_bins(distances: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """The bin on the left of each distance and the share of the bin on the right of it.

    Args:
        distances: (...); beyond the outermost bins they count as these.
        bins: (..., number), rising.

    Returns:
        Indices (...) below number - 1, and shares (...) in 0..1.
    """
    left = (bins <= distances[..., None]).sum(-1) - 1
    left = left.clamp(0, bins.shape[-1] - 2)
    low, high = (bins.gather(-1, (left + i)[..., None])[..., 0] for i in (0, 1))
    return left, ((distances - low) / (high - low)).clamp(0, 1)

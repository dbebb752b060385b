"""Conversion of coordinates between 0..1 and logit space, and their sine codes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """log(x / (1 - x)), numerator and denominator clamped to at least ``eps``."""
    x = x.clamp(0, 1)
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()


def clamp_logit(logit: Tensor, eps: float = 1e-5) -> Tensor:
    """``inverse_sigmoid(logit.sigmoid(), eps)`` without the cancellation near 1."""
    return logit.sigmoid().clamp(min=eps).log() - (-logit).sigmoid().clamp(min=eps).log()


def sine_code(
    x: Tensor, num_feats: int, temperature: float = 10000.0, scale: float = 2 * math.pi
) -> Tensor:
    """Sines and cosines of one coordinate at ``num_feats`` / 2 frequencies, interleaved.

    Args:
        x: (...) in single or double precision.

    Returns:
        (..., num_feats): channel 2i is the sine of x * scale / temperature^(2i / num_feats),
        channel 2i + 1 the cosine.
    """
    exponent = 2 * torch.arange(num_feats // 2, dtype=x.dtype, device=x.device) / num_feats
    angle = x[..., None] * scale / temperature**exponent
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(-2)


def sine_point_code(
    points: Tensor, num_feats: int, temperature: float = 10000.0, order: str = 'yxwh'
) -> Tensor:
    """Codes of points or boxes, one block of ``num_feats`` channels per coordinate.

    Args:
        points: (..., 2 | 4) as (x, y) or (cx, cy, w, h) in 0..1.
        order: the order of the blocks; nearly all DETR variants put y before x.

    Returns:
        (..., D * num_feats) for D coordinates.
    """
    places = ['xywh'.index(c) for c in order[: points.shape[-1]]]
    points = torch.stack([points[..., i] for i in places], -1)
    return sine_code(points, num_feats, temperature).flatten(-2)


def scale_coordinates(points: Tensor, *factors: float) -> Tensor:
    """Points (..., D) with each of the D coordinates multiplied by its own factor.

    A tensor made of these numbers would be copied from the host: the program would wait for the GPU,
    and a CUDA graph could not capture the copy.
    """
    return torch.stack([x * f for x, f in zip(points.unbind(-1), factors, strict=True)], -1)

"""Dropout that is fast on the CPU.

torch draws one random number per element on the CPU, 5 ns each; this is a tenth of a training step of
Deformable DETR. Here one word of 64 random bits decides about four elements. On other devices, and in
compiled and traced graphs, torch's own dropout is used.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 2**16
"""A probability is rounded to a multiple of 1 / STEPS; the scale of the kept elements matches it."""


def draw_seed() -> int:
    """A seed from torch's default generator, so it is reproducible and the same on recomputation."""
    return int(torch.empty((), dtype=torch.int64).random_())


def kept(shape: torch.Size | tuple[int, ...], probability: float, seed: int) -> Tensor:
    """A bool tensor of ``shape`` on the CPU, False with ``probability``; the seed determines it."""
    number = math.prod(shape)
    words = np.random.SFC64(seed).random_raw(-(-number // 4))
    bits = torch.from_numpy(words.view(np.int16))[:number]
    return (bits >= _threshold(probability) - STEPS // 2).view(shape)


def kept_share(probability: float) -> float:
    """The expected share of True in :func:`kept`."""
    return 1 - _threshold(probability) / STEPS


def _threshold(probability: float) -> int:
    return round(probability * STEPS)


def fast_dropout(x: Tensor) -> bool:
    """Whether the functions here can drop elements of ``x``; otherwise torch's must."""
    hidden = torch.compiler.is_compiling() or torch.jit.is_tracing() or type(x) is not Tensor
    return x.device.type == 'cpu' and not hidden


def dropout(x: Tensor, probability: float, training: bool = True) -> Tensor:
    """The same as :func:`torch.nn.functional.dropout`, but fast on the CPU."""
    if not training or not 0 < kept_share(probability) < 1 or not fast_dropout(x):
        return F.dropout(x, probability, training)
    return _Dropout.apply(x, probability)


class Dropout(nn.Dropout):
    """The same as :class:`torch.nn.Dropout`, but fast on the CPU and never in place."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


class _Dropout(torch.autograd.Function):
    """Saves one byte per element for the backward pass; torch's dropout saves a float."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float) -> Tensor:
        keep = kept(x.shape, probability, draw_seed())
        ctx.save_for_backward(keep)
        ctx.scale = 1 / kept_share(probability)
        return _masked(x, keep, ctx.scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        return _masked(grad, keep, ctx.scale), None


def _masked(x: Tensor, keep: Tensor, scale: float) -> Tensor:
    return (x * keep).mul_(scale)

"""Dropout whose random bits do not cost more than what they are for.

On the CPU torch draws one number after the other for every element, 5 ns each; in a training step
of Deformable DETR that is a tenth. Here a word of 64 random bits decides about four elements. On
other devices, in compiled and traced graphs it is torch's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 2**16
"""A probability is a multiple of 1 / LEVELS; what is kept is scaled for the one that is used."""


def draw_seed() -> int:
    """From torch's default generator: reproducible, and drawn again when a step is recomputed."""
    return int(torch.empty((), dtype=torch.int64).random_())


def kept(shape: torch.Size | tuple[int, ...], probability: float, seed: int) -> Tensor:
    """Bool of that shape, on the CPU: False with ``probability``, the same for the same seed."""
    number = math.prod(shape)
    words = np.random.SFC64(seed).random_raw(-(-number // 4))
    bits = torch.from_numpy(words.view(np.int16))[:number]
    return (bits >= _threshold(probability) - LEVELS // 2).view(shape)


def kept_share(probability: float) -> float:
    """The share of True in :func:`kept`."""
    return 1 - _threshold(probability) / LEVELS


def _threshold(probability: float) -> int:
    return round(probability * LEVELS)


def fast_dropout(x: Tensor) -> bool:
    """Whether ``x`` is dropped by the functions here rather than torch's."""
    hidden = torch.compiler.is_compiling() or torch.jit.is_tracing() or type(x) is not Tensor
    return x.device.type == 'cpu' and not hidden


def dropout(x: Tensor, probability: float, training: bool = True) -> Tensor:
    """As :func:`torch.nn.functional.dropout`."""
    if not training or not 0 < kept_share(probability) < 1 or not fast_dropout(x):
        return F.dropout(x, probability, training)
    return _Dropout.apply(x, probability)


class Dropout(nn.Dropout):
    """As :class:`torch.nn.Dropout`, never in place."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


class _Dropout(torch.autograd.Function):
    """Saves one byte an element; torch's saves a number."""

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
    return keep.to(x.dtype).mul_(scale) * x

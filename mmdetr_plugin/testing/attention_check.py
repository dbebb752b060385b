"""Compares the deformable attention that runs on this machine with a plain implementation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor

from ..ops import deformable
from ..ops.deformable import Shapes

SHAPES: Shapes = ((7, 9), (4, 5), (1, 3))
LIMITS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
"""Largest differences, relative to the largest value, that rounding explains."""


@dataclass(frozen=True)
class Comparison:
    """The backend that ran, and its largest differences relative to the largest value."""

    backend: str
    forward: float
    backward: float
    limit: float

    @property
    def agrees(self) -> bool:
        return self.forward <= self.limit and self.backward <= self.limit  # False for NaN


def naive(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The definition, in loops over samples: bilinear interpolation, zero outside the map."""
    batch, _, heads, width = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    starts = [0, *itertools.accumulate(h * w for h, w in shapes)]
    rows = []
    every = itertools.product(range(batch), range(queries), range(heads))
    for b, q, head in every:
        total = value.new_zeros(width)
        for level, point in itertools.product(range(levels), range(points)):
            height, columns = shapes[level]
            x = locations[b, q, head, level, point, 0] * columns - 0.5
            y = locations[b, q, head, level, point, 1] * height - 0.5
            left, top = math.floor(x.item()), math.floor(y.item())
            for row, column in itertools.product((top, top + 1), (left, left + 1)):
                if 0 <= row < height and 0 <= column < columns:
                    share = (1 - (x - column).abs()) * (1 - (y - row).abs())
                    token = value[b, starts[level] + row * columns + column, head]
                    total = total + weights[b, q, head, level, point] * share * token
        rows.append(total)
    return torch.stack(rows).view(batch, queries, heads * width)


def compare(device: torch.device, dtype: torch.dtype) -> Comparison:
    """Run the backend that a model would run, with values of ``dtype`` and some points off the maps."""
    generator = torch.Generator().manual_seed(0)
    size = sum(h * w for h, w in SHAPES)
    value = torch.randn(2, size, 2, 8, generator=generator).to(dtype)
    locations = torch.rand(2, 5, 2, len(SHAPES), 4, 2, generator=generator) * 1.4 - 0.2
    weights = torch.rand(2, 5, 2, len(SHAPES), 4, generator=generator).to(dtype)
    direction = torch.randn(2, 5, 16, generator=generator).to(dtype)
    inputs = value, locations, weights
    used: list[str] = []
    with mock.patch.dict(deformable.BACKENDS, _recorded(used)):
        got = _gradients(deformable.deformable_attention, [x.to(device) for x in inputs], direction)
    expected = _gradients(naive, [x.double() for x in inputs], direction)
    forward, *backward = (
        float((a.double().cpu() - b).abs().max() / b.abs().max()) for a, b in zip(got, expected)
    )
    # Python's max() would drop a NaN.
    return Comparison(used[0], forward, torch.tensor(backward).max().item(), LIMITS[dtype])


def _gradients(sample: Callable, inputs: list[Tensor], direction: Tensor) -> list[Tensor]:
    """The output, and the gradients of its scalar product with ``direction``."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = sample(leaves[0], SHAPES, *leaves[1:])
    return [out.detach(), *torch.autograd.grad(out, leaves, direction.to(out))]


def _recorded(used: list[str]) -> dict[str, Callable]:
    """The backends, wrapped so that each appends its name to ``used`` when it is called."""

    def note(name: str, sample: Callable) -> Callable:
        def call(*args: object) -> Tensor:
            used.append(name)
            return sample(*args)

        return call

    return {name: note(name, sample) for name, sample in deformable.BACKENDS.items()}

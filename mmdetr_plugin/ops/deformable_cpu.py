"""Deformable attention on the CPU: memory and gradients for the compiled loops."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from . import deformable_kernels as kernels
from .deformable_levels import Shapes, match_precision
from .operators import sampling_operator
from .threads import run_units

SMALL = 30_000
"""Number of samples below which a second thread costs more time than it saves."""


def sample_compiled(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The compiled form of :func:`mmdetr_plugin.ops.deformable.sample_grid`, in 32 or 64 bits."""
    value, locations, weights = match_precision(value, locations, weights)
    batch, _, heads, depth = value.shape
    # The rows of one head must be contiguous: in (B, S, heads, D) each would be a memory page away.
    spare = value.new_zeros(batch, heads, len(shapes), depth)
    rows = torch.cat((value.transpose(1, 2), spare), 2)
    sizes = list(itertools.chain(*shapes))
    return _sample(rows, locations.contiguous(), weights.contiguous(), sizes)


def _forward(rows: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]) -> Tensor:
    batch, queries, heads = weights.shape[:3]
    out = rows.new_empty(batch, queries, heads * rows.shape[-1])
    units = batch * heads * -(-queries // kernels.BLOCK)
    common = _common(rows, locations, weights, sizes)
    run_units(kernels.forward, units, 1 + weights.numel() // SMALL, *common, _flat(out))
    return out


def _backward(
    grad: Tensor, rows: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    grads = torch.zeros_like(rows), torch.empty_like(locations), torch.empty_like(weights)
    batch, _, heads, levels = weights.shape[:4]
    parts = 1 if batch * heads >= torch.get_num_threads() else levels
    common = _common(rows, locations, weights, sizes)
    written = tuple(_flat(x) for x in grads)
    units = batch * heads * parts
    run_units(
        kernels.backward, units, 1 + weights.numel() // SMALL, parts, *common, _flat(grad), written
    )
    return grads


_sample = sampling_operator('deformable_attention_cpu', _forward, _backward)


def _common(rows: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]) -> tuple:
    """The arguments that both loops take, from ``lanes`` to ``weights``."""
    _, queries, heads, levels, points = weights.shape
    counts = queries, heads, rows.shape[2], levels * points
    maps = _maps(tuple(sizes), points, rows.dtype)
    return (0.0,) * rows.shape[3], counts, maps, *(_flat(x) for x in (rows, locations, weights))


def _flat(x: Tensor) -> np.ndarray:
    return x.detach().view(-1).numpy()


@lru_cache(maxsize=64)
def _maps(sizes: tuple[int, ...], points: int, dtype: torch.dtype) -> tuple[np.ndarray, ...]:
    """For each of the L * P samples of a head: width, height, columns, first row and spare row."""
    heights, widths = np.array(sizes[::2]), np.array(sizes[1::2])
    ends = (heights * widths).cumsum()
    whole = widths, ends - heights * widths, ends[-1] + np.arange(len(ends))
    scale = torch.empty(0, dtype=dtype).numpy().dtype
    kinds = (*((x, scale) for x in (widths, heights)), *((x, np.int32) for x in whole))
    return tuple(x.repeat(points).astype(kind) for x, kind in kinds)

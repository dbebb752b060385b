"""Deformable attention on the CPU by compiled loops (numba, the extra ``cpu``).

No intermediate tensors: a sample is read, weighted and added while its four corners are in cache.
Forward runs in parallel over queries, backward over (image, head), which share no gradient.
"""

# ruff: noqa: ANN001, ANN002, ANN202, ANN205 - numba infers the types of what it compiles
# mypy: disallow-untyped-defs=False

from __future__ import annotations

from threading import Lock

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor
from torch.autograd.function import once_differentiable

_LOCK = Lock()  # numba's portable thread pool takes one caller at a time


FAST = {
    'contract',
    'reassoc',
    'nsz',
}  # sums may be reordered; infinities and NaN stay what they are


@njit(inline='always')
def _place(x, y, height, width):
    """Whether a sample touches the map, its upper left corner and its fractions, (y, x) each."""
    x, y = x * width - np.float32(0.5), y * height - np.float32(0.5)
    inside = x > -1 and y > -1 and x < width and y < height
    if not inside:
        return False, 0, 0, x, y
    left, top = int(np.floor(x)), int(np.floor(y))
    return True, top, left, y - top, x - left


@njit(inline='always')
def _corner(corner, top, left, dy, dx, height, width):
    """Index of corner 0..3 in its level, -1 outside of the map, and its share of the sample."""
    i, j = top + corner // 2, left + corner % 2
    if i < 0 or j < 0 or i >= height or j >= width:
        return -1, dy
    return i * width + j, (dy if corner // 2 else 1 - dy) * (dx if corner % 2 else 1 - dx)


@njit(parallel=True, fastmath=FAST, cache=True)
def _forward(value, sizes, starts, locations, weights, out):
    batch, queries, heads, levels, points = weights.shape
    depth = value.shape[3]
    for row in prange(batch * queries):
        b, q = row // queries, row % queries
        for h in range(heads):
            acc = np.zeros(depth, value.dtype)
            for level in range(levels):
                height, width = sizes[level, 0], sizes[level, 1]
                for p in range(points):
                    x, y = locations[b, q, h, level, p, 0], locations[b, q, h, level, p, 1]
                    inside, top, left, dy, dx = _place(x, y, height, width)
                    if not inside:
                        continue
                    for corner in range(4):
                        index, share = _corner(corner, top, left, dy, dx, height, width)
                        if index < 0:
                            continue
                        factor = value.dtype.type(share * weights[b, q, h, level, p])
                        source = value[b, starts[level] + index, h]
                        for d in range(depth):
                            acc[d] += factor * source[d]
            for d in range(depth):
                out[b, q, h, d] = acc[d]


@njit(parallel=True, fastmath=FAST, cache=True)
def _backward(
    value,
    sizes,
    starts,
    locations,
    weights,
    grad,
    grad_value,
    grad_locations,
    grad_weights,
):
    batch, queries, heads, levels, points = weights.shape
    depth = value.shape[3]
    for row in prange(batch * heads):
        b, h = row // heads, row % heads
        dots = np.zeros(4, value.dtype)
        for q in range(queries):
            g = grad[b, q, h]
            for level in range(levels):
                height, width = sizes[level, 0], sizes[level, 1]
                for p in range(points):
                    x, y = locations[b, q, h, level, p, 0], locations[b, q, h, level, p, 1]
                    inside, top, left, dy, dx = _place(x, y, height, width)
                    if not inside:
                        continue
                    weight = weights[b, q, h, level, p]
                    for corner in range(4):
                        dots[corner] = 0
                        index, share = _corner(corner, top, left, dy, dx, height, width)
                        if index < 0:
                            continue
                        factor = value.dtype.type(share * weight)
                        source = value[b, starts[level] + index, h]
                        target = grad_value[b, starts[level] + index, h]
                        dot = value.dtype.type(0)
                        for d in range(depth):
                            dot += g[d] * source[d]
                            target[d] += factor * g[d]
                        dots[corner] = dot
                    across = (dots[1] - dots[0]) * (1 - dy) + (dots[3] - dots[2]) * dy
                    down = (dots[2] - dots[0]) * (1 - dx) + (dots[3] - dots[1]) * dx
                    above = dots[0] * (1 - dx) + dots[1] * dx
                    below = dots[2] * (1 - dx) + dots[3] * dx
                    grad_locations[b, q, h, level, p, 0] = across * weight * width
                    grad_locations[b, q, h, level, p, 1] = down * weight * height
                    grad_weights[b, q, h, level, p] = above * (1 - dy) + below * dy


class _Sample(torch.autograd.Function):
    """The two kernels as one differentiable function of value, locations and weights."""

    @staticmethod
    def forward(ctx, value, locations, weights, sizes, starts):
        ctx.save_for_backward(value, locations, weights)
        ctx.layout = sizes, starts
        out = torch.empty(*locations.shape[:3], value.shape[3], dtype=value.dtype)
        arrays = [x.detach().numpy() for x in (locations, weights, out)]
        _run(_forward, value.detach().numpy(), sizes, starts, *arrays)
        return out.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        saved = [x.detach() for x in ctx.saved_tensors]
        value, locations, weights = saved
        grads = [torch.zeros_like(x) for x in saved]
        grad = grad.unflatten(2, (value.shape[2], -1)).contiguous()
        arrays = [x.numpy() for x in (locations, weights, grad, *grads)]
        _run(_backward, value.numpy(), *ctx.layout, *arrays)
        return *grads, None, None


def _run(kernel, *args) -> None:
    threads = torch.get_num_threads()
    with _LOCK:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        kernel(*args)
    if torch.get_num_threads() != threads:  # numba's first call sets OpenMP's number, torch's too
        torch.set_num_threads(threads)


def sample_compiled(
    value: Tensor, shapes: tuple[tuple[int, int], ...], locations: Tensor, weights: Tensor
) -> Tensor:
    """As :func:`mmdetr_plugin.ops.deformable.sample_grid`, on the CPU in 32 or 64 bits."""
    sizes = np.array(shapes, np.int64)
    starts = np.concatenate(([0], sizes.prod(1).cumsum()[:-1]))
    return _Sample.apply(
        value.contiguous(), locations.contiguous(), weights.contiguous(), sizes, starts
    )

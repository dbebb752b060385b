"""Deformable attention on the CPU by compiled loops (numba, the extra ``cpu``).

No intermediate tensors: every sample is read, weighted and added while its four corners are in cache.
Queries run in parallel forward; backward runs in parallel over (image, head), which share no gradient.
"""

from __future__ import annotations

from threading import Lock

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor
from torch.autograd.function import once_differentiable

_LOCK = Lock()  # numba's portable thread pool takes one caller at a time


@njit(inline='always')
def _corner(x, y, width, height):  # noqa: ANN001, ANN202 - compiled code
    """Index of the upper left corner of a sample, and its fractions."""
    left, top = int(np.floor(x)), int(np.floor(y))
    return left, top, x - left, y - top


@njit(parallel=True, fastmath={'contract', 'reassoc', 'nsz'}, cache=True)
def _forward(value, sizes, starts, locations, weights, out):  # noqa: ANN001, ANN202
    batch, queries, heads, levels, points = weights.shape
    depth = value.shape[3]
    for row in prange(batch * queries):
        b, q = row // queries, row % queries
        for h in range(heads):
            acc = np.zeros(depth, value.dtype)
            for lv in range(levels):
                height, width, start = sizes[lv, 0], sizes[lv, 1], starts[lv]
                for p in range(points):
                    x = locations[b, q, h, lv, p, 0] * width - value.dtype.type(0.5)
                    y = locations[b, q, h, lv, p, 1] * height - value.dtype.type(0.5)
                    if not (x > -1 and y > -1 and x < width and y < height):
                        continue
                    left, top, dx, dy = _corner(x, y, width, height)
                    weight = weights[b, q, h, lv, p]
                    for corner in range(4):
                        i, j = top + corner // 2, left + corner % 2
                        if i < 0 or j < 0 or i >= height or j >= width:
                            continue
                        part = (dy if corner // 2 else 1 - dy) * (dx if corner % 2 else 1 - dx)
                        part = value.dtype.type(part * weight)
                        source = value[b, start + i * width + j, h]
                        for d in range(depth):
                            acc[d] += part * source[d]
            for d in range(depth):
                out[b, q, h, d] = acc[d]


@njit(parallel=True, fastmath={'contract', 'reassoc', 'nsz'}, cache=True)
def _backward(  # noqa: ANN202
    value, sizes, starts, locations, weights, grad, grad_value, grad_locations, grad_weights  # noqa: ANN001
):
    batch, queries, heads, levels, points = weights.shape
    depth = value.shape[3]
    for row in prange(batch * heads):
        b, h = row // heads, row % heads
        dots = np.zeros(4, value.dtype)
        for q in range(queries):
            g = grad[b, q, h]
            for lv in range(levels):
                height, width, start = sizes[lv, 0], sizes[lv, 1], starts[lv]
                for p in range(points):
                    x = locations[b, q, h, lv, p, 0] * width - value.dtype.type(0.5)
                    y = locations[b, q, h, lv, p, 1] * height - value.dtype.type(0.5)
                    if not (x > -1 and y > -1 and x < width and y < height):
                        continue
                    left, top, dx, dy = _corner(x, y, width, height)
                    weight = weights[b, q, h, lv, p]
                    for corner in range(4):
                        dots[corner] = 0
                        i, j = top + corner // 2, left + corner % 2
                        if i < 0 or j < 0 or i >= height or j >= width:
                            continue
                        part = (dy if corner // 2 else 1 - dy) * (dx if corner % 2 else 1 - dx)
                        part = value.dtype.type(part * weight)
                        place = start + i * width + j
                        source, target = value[b, place, h], grad_value[b, place, h]
                        dot = value.dtype.type(0)
                        for d in range(depth):
                            dot += g[d] * source[d]
                            target[d] += part * g[d]
                        dots[corner] = dot
                    across = (dots[1] - dots[0]) * (1 - dy) + (dots[3] - dots[2]) * dy
                    down = (dots[2] - dots[0]) * (1 - dx) + (dots[3] - dots[1]) * dx
                    above = dots[0] * (1 - dx) + dots[1] * dx
                    below = dots[2] * (1 - dx) + dots[3] * dx
                    grad_locations[b, q, h, lv, p, 0] = across * weight * width
                    grad_locations[b, q, h, lv, p, 1] = down * weight * height
                    grad_weights[b, q, h, lv, p] = above * (1 - dy) + below * dy


class _Sample(torch.autograd.Function):
    """The two kernels as one differentiable function of value, locations and weights."""

    @staticmethod
    def forward(ctx, value, locations, weights, sizes, starts):  # noqa: ANN001, ANN205
        ctx.save_for_backward(value, locations, weights)
        ctx.layout = sizes, starts
        out = torch.empty(*locations.shape[:3], value.shape[3], dtype=value.dtype)
        arrays = [x.detach().numpy() for x in (locations, weights, out)]
        _run(_forward, value.detach().numpy(), sizes, starts, *arrays)
        return out.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # noqa: ANN001, ANN205
        saved = [x.detach() for x in ctx.saved_tensors]
        value, locations, weights = saved
        grads = [torch.zeros_like(x) for x in saved]
        grad = grad.unflatten(2, (value.shape[2], -1)).contiguous()
        arrays = [x.numpy() for x in (locations, weights, grad, *grads)]
        _run(_backward, value.numpy(), *ctx.layout, *arrays)
        return *grads, None, None


def _run(kernel, *args) -> None:  # noqa: ANN001, ANN002
    with _LOCK:
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        kernel(*args)


def sample_compiled(
    value: Tensor, shapes: tuple[tuple[int, int], ...], locations: Tensor, weights: Tensor
) -> Tensor:
    """As :func:`mmdetr_plugin.ops.deformable.sample_grid`, for single and double precision on CPU."""
    sizes = np.array(shapes, np.int64)
    starts = np.concatenate(([0], sizes.prod(1).cumsum()[:-1]))
    return _Sample.apply(
        value.contiguous(), locations.contiguous(), weights.contiguous(), sizes, starts
    )

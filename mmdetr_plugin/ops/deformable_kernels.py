"""Deformable attention in compiled loops over registers (numba, the extra ``cpu``).

The values of a head are stored as rows of ``D`` numbers: the tokens of all levels, then one spare row
of zeros for each level. A corner outside its map reads and writes the spare row, so the loops need no
branch. A row is loaded as one vector, in as many registers as that takes; the compiler gets ``D`` as
the length of the tuple ``lanes``. Each width and precision is compiled once and cached on disk.
"""

# ruff: noqa: ANN001, ANN201, ANN202 - numba infers the types of what it compiles
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc"

from __future__ import annotations

import numpy as np
from numba import njit

from .vectors import add_scaled, compiled, dot, get, load, put, store

BLOCK = 64
"""Queries in a unit of the forward pass: few enough for the samples of a head to stay in cache."""


# ---- samples -------------------------------------------------------------------------------------
# Arrays are flat and addressed by offsets: slices would cost reference counting in the inner loops.


@njit(inline='always')
def _corners(first, maps, locations, weights, at, index, share):
    """Find the rows of the four corners of n samples, and the share of each corner.

    Args:
        first: number of the first of the n samples within its head.
        maps: width, height, number of columns, first row and spare row for each sample of a head.
        locations: (..., 2), (x, y) in the unit square.
        weights: (...).
        at: the first weight to read.
        index, share: (4, n), to be written.
    """
    widths, heights, columns, starts, spares = maps
    half, one, outside = np.float32(0.5), np.float32(1), np.float32(-2)
    for k in range(index.shape[1]):
        width, height = get(widths, first + k), get(heights, first + k)
        x = get(locations, 2 * (at + k)) * width - half
        y = get(locations, 2 * (at + k) + 1) * height - half
        inside = (x > -1) & (y > -1) & (x < width) & (y < height)  # false for NaN
        x, y = x if inside else outside, y if inside else outside
        left, top = np.floor(x), np.floor(y)
        dx, dy = x - left, y - top
        step, spare = get(columns, first + k), get(spares, first + k)
        corner = get(starts, first + k) + np.int32(top) * step + np.int32(left)
        top_in, bottom_in = top >= 0, inside & (top + one < height)
        left_in, right_in = left >= 0, left + one < width
        index[0, k] = corner if top_in & left_in else spare
        index[1, k] = corner + np.int32(1) if top_in & right_in else spare
        index[2, k] = corner + step if bottom_in & left_in else spare
        index[3, k] = corner + step + np.int32(1) if bottom_in & right_in else spare
        weight = get(weights, at + k)
        upper, lower = weight * (one - dy), weight * dy
        share[0, k], share[1, k] = upper * (one - dx), upper * dx
        share[2, k], share[3, k] = lower * (one - dx), lower * dx


@njit(inline='always')
def _gradients(first, maps, locations, weights, at, dots, grad_locations, grad_weights):
    """Gradients of locations and weights from ``dots`` (4, n), corner rows times output gradient."""
    widths, heights = maps[0], maps[1]
    half, one = np.float32(0.5), np.float32(1)
    for k in range(dots.shape[1]):
        width, height = get(widths, first + k), get(heights, first + k)
        x = get(locations, 2 * (at + k)) * width - half
        y = get(locations, 2 * (at + k) + 1) * height - half
        inside = (x > -1) & (y > -1) & (x < width) & (y < height)
        x, y = x if inside else half, y if inside else half
        dx, dy = x - np.floor(x), y - np.floor(y)
        upper = dots[0, k] + (dots[1, k] - dots[0, k]) * dx
        lower = dots[2, k] + (dots[3, k] - dots[2, k]) * dx
        across = (dots[1, k] - dots[0, k]) * (one - dy) + (dots[3, k] - dots[2, k]) * dy
        weight = get(weights, at + k)
        put(grad_locations, 2 * (at + k), across * weight * width)
        put(grad_locations, 2 * (at + k) + 1, (lower - upper) * weight * height)
        put(grad_weights, at + k, upper + (lower - upper) * dy)


@compiled
def forward(start, stop, lanes, counts, maps, rows, locations, weights, out):
    """Compute units ``start`` to ``stop``; a unit is one image, one head and :data:`BLOCK` queries.

    All arrays from ``rows`` on are passed flat, with one dimension.

    Args:
        lanes: a tuple of ``D`` numbers; only its length matters.
        counts: number of queries, of heads, of rows per head and of samples per head.
        maps: as in :func:`_corners`.
        rows: (B, heads, rows, D).
        locations, weights: (B, N, heads, samples, 2), (B, N, heads, samples).
        out: (B, N, heads, D), written here.
    """
    queries, heads, size, samples = counts
    depth, blocks = len(lanes), (queries + BLOCK - 1) // BLOCK
    index, share = np.empty((4, samples), np.int32), np.empty((4, samples), rows.dtype)
    zeros, unit_share = np.zeros(depth, rows.dtype), rows.dtype.type(1)
    for unit in range(start, stop):
        pair, block = unit // blocks, unit % blocks
        base = pair * size
        for q in range(block * BLOCK, min((block + 1) * BLOCK, queries)):
            target = ((pair // heads) * queries + q) * heads + pair % heads
            _corners(0, maps, locations, weights, target * samples, index, share)
            # Two sums, so that an addition need not wait for the one before it.
            odd = even = load(zeros, 0, lanes)
            for k in range(samples):
                even = add_scaled(
                    even, load(rows, (base + index[0, k]) * depth, lanes), share[0, k]
                )
                odd = add_scaled(odd, load(rows, (base + index[1, k]) * depth, lanes), share[1, k])
                even = add_scaled(
                    even, load(rows, (base + index[2, k]) * depth, lanes), share[2, k]
                )
                odd = add_scaled(odd, load(rows, (base + index[3, k]) * depth, lanes), share[3, k])
            store(out, target * depth, add_scaled(even, odd, unit_share))


@compiled
def backward(start, stop, parts, lanes, counts, maps, rows, locations, weights, grad, grads):
    """Compute units ``start`` to ``stop``; a unit is one image, one head and one part of its samples.

    No two units write to the same gradient.

    Args:
        parts: number of equal parts into which the samples are divided, each of whole levels.
        lanes, counts, maps, rows, locations, weights: as in :func:`forward`.
        grad: gradient of the output, (B, N, heads, D).
        grads: gradients of rows (zeros at first), locations and weights, written here.
    """
    grad_rows, grad_locations, grad_weights = grads
    queries, heads, size, samples = counts
    depth, count = len(lanes), samples // parts
    index, share = np.empty((4, count), np.int32), np.empty((4, count), rows.dtype)
    dots = np.empty((4, count), rows.dtype)
    for unit in range(start, stop):
        pair, first = unit // parts, unit % parts * count
        base = pair * size
        for q in range(queries):
            source = ((pair // heads) * queries + q) * heads + pair % heads
            at = source * samples + first
            _corners(first, maps, locations, weights, at, index, share)
            g = load(grad, source * depth, lanes)
            for k in range(count):
                for corner in range(4):
                    row = (base + index[corner, k]) * depth
                    dots[corner, k] = dot(load(rows, row, lanes), g)
                    changed = add_scaled(load(grad_rows, row, lanes), g, share[corner, k])
                    store(grad_rows, row, changed)
            _gradients(first, maps, locations, weights, at, dots, grad_locations, grad_weights)

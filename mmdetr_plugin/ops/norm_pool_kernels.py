"""Batch norm, ReLU and the maximum of 3 x 3 windows, two cells apart, in one compiled loop (numba).

Maps are flat arrays of cells in channels-last order. ``layout`` is that of `norm_kernels.py`, but
its rows are lines of cells of the pooled map, with ``width`` channels; ``shape`` is (H, W) of the map
before and (h, w) after pooling.

A window is kept by its largest number before the norm (the smallest, where the scale is negative) and
by the place of that number: 3 * row + column, or -1 if the ReLU sets it to 0. So no map of the larger
size is written.
"""

# ruff: noqa: ANN001, ANN201, ANN202 - numba infers the types of what it compiles
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc"

from __future__ import annotations

import numpy as np
from numba import njit

from .vectors import compiled, load, store, where_equal, where_greater, where_positive


@njit(inline='always')
def _largest(window, rows, columns):
    """The largest ``sign * number`` of a window and its place; the cells before the image do not exist.

    Args:
        window: x, the index of the number at row 0 and column 0, the distances of rows and of columns,
            lanes, sign and a vector of zeros.
        rows, columns: (first, end) of those that exist.
    """
    x, at, line, width, lanes, sign, zeros = window
    best = load(x, at + rows[0] * line + columns[0] * width, lanes) * sign
    place = zeros + x.dtype.type(3 * rows[0] + columns[0])
    for i in range(rows[0], rows[1]):
        for j in range(columns[0], columns[1]):
            number = load(x, at + i * line + j * width, lanes) * sign
            here = zeros + x.dtype.type(3 * i + j)
            place = where_greater(number, best, here, place)
            best = where_greater(number, best, number, best)
    return best, place


@compiled
def forward(start, stop, lanes, layout, shape, x, table, bias, out, chosen, places):
    """Units ``start`` to ``stop`` of ``out``, ``chosen`` and ``places`` (rows, w, width)."""
    step, rows, width = layout[:3]
    height, breadth, after, across = shape
    zeros = load(np.zeros(len(lanes), x.dtype), 0, lanes)
    minus = zeros - x.dtype.type(1)
    for row in range(start * step, min(stop * step, rows)):
        image, top = row // after, 2 * (row % after) - 1
        there = max(0, -top), min(3, height - top)
        for column in range(across):
            left = 2 * column - 1
            beside = max(0, -left), min(3, breadth - left)
            whole = there == (0, 3) and beside == (0, 3)
            first = ((image * height + top) * breadth + left) * width
            for c in range(0, width, len(lanes)):
                scale = load(table, width + c, lanes)
                sign = where_greater(zeros, scale, minus, zeros - minus)
                window = x, first + c, breadth * width, width, lanes, sign, zeros
                if whole:
                    best, place = _largest(window, (0, 3), (0, 3))
                else:
                    best, place = _largest(window, there, beside)
                best = best * sign
                z = (best - load(table, c, lanes)) * scale + load(bias, c, lanes)
                at = (row * across + column) * width + c
                store(chosen, at, best)
                store(places, at, where_greater(z, zeros, place, minus))
                store(out, at, where_positive(z, z))


@njit(inline='always')
def _write(x, at, lanes, table, means, c, g, out):
    width = len(table) // 3
    d = load(x, at, lanes) - load(table, c, lanes)
    g = g - load(means, c, lanes) - d * load(means, width + c, lanes)
    store(out, at, g * load(table, width + c, lanes))


@compiled
def backward(start, stop, lanes, layout, shape, x, table, means, places, grad, out):
    """The gradient ``out`` of x: scale * (g - mean of g - deviation * mean of products), where g is the
    sum of ``grad`` of the windows whose largest number it is.

    Units are those of :func:`forward`: the window in row i and column j, and the four cells from row
    2 i and column 2 j on, which are in it and in the windows after it.
    """
    step, rows, width = layout[:3]
    height, breadth, after, across = shape
    for row in range(start * step, min(stop * step, rows)):
        image, line = row // after, 2 * (row % after)
        below = line // 2 + 1 < after
        for column in range(0, breadth, 2):
            beside = column // 2 + 1 < across
            cell = ((image * height + line) * breadth + column) * width
            for c in range(0, width, len(lanes)):
                at = (row * across + column // 2) * width + c
                here, g = load(places, at, lanes), load(grad, at, lanes)
                g4 = where_equal(here, x.dtype.type(4), g)
                g5 = where_equal(here, x.dtype.type(5), g)
                g7 = where_equal(here, x.dtype.type(7), g)
                g8 = where_equal(here, x.dtype.type(8), g)
                if beside:
                    here, g = load(places, at + width, lanes), load(grad, at + width, lanes)
                    g5 = g5 + where_equal(here, x.dtype.type(3), g)
                    g8 = g8 + where_equal(here, x.dtype.type(6), g)
                if below:
                    at += across * width
                    here, g = load(places, at, lanes), load(grad, at, lanes)
                    g7 = g7 + where_equal(here, x.dtype.type(1), g)
                    g8 = g8 + where_equal(here, x.dtype.type(2), g)
                    if beside:
                        here, g = load(places, at + width, lanes), load(grad, at + width, lanes)
                        g8 = g8 + where_equal(here, x.dtype.type(0), g)
                _write(x, cell + c, lanes, table, means, c, g4, out)
                right, lower = column + 1 < breadth, line + 1 < height
                if right:
                    _write(x, cell + width + c, lanes, table, means, c, g5, out)
                if lower:
                    next_line = cell + breadth * width + c
                    _write(x, next_line, lanes, table, means, c, g7, out)
                    if right:
                        _write(x, next_line + width, lanes, table, means, c, g8, out)

"""Batch norm with statistics of the batch, a sum and an activation in one compiled loop (numba).

A map is an array of ``rows``, the cells of all images, with ``width`` channels each. The result is

    z = (x - mean) * scale + (other - other_mean) * other_scale + bias,   out = act(z)

where ``other`` may be left out (None). ``layout`` is (rows of a unit, rows, width, distance of the rows
of x, place of the first channel): x may be a range of the channels of a wider array. Parameters of the
channels are flat arrays; ``act`` is a tuple of 1 (none), 2 (ReLU) or 3 (SiLU) numbers, so that the
compiler knows it. Loops run over tiles of a few rows, one vector of channels at a time; the parameters
of these channels stay in registers.
"""

# ruff: noqa: ANN001, ANN201, ANN202 - numba infers the types of what it compiles
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc"

from __future__ import annotations

import numpy as np
from numba import njit

from .vectors import compiled, exponential, load, store, where_positive

TILE = 4
"""Rows in a tile: few enough for the processor to read them ahead."""
BLOCK = 64
"""Rows, whole tiles, whose sums are in the precision of the maps."""


@njit(inline='always')
def _sigmoid(z, one):
    return one / (one + exponential(z * -one))


@njit(inline='always')
def _activated(act, z, one):
    if len(act) == 1:
        return z
    if len(act) == 2:
        return where_positive(z, z)
    return z * _sigmoid(z, one)


@njit(inline='always')
def _before_activation(act, z, grad, one):
    """The gradient of ``z`` from that of ``act(z)``."""
    if len(act) == 1:
        return grad
    if len(act) == 2:
        return where_positive(z, grad)
    share = _sigmoid(z, one)
    return grad * share * (z * (share * -one + one) + one)


@njit(inline='always')
def _flush(sums, totals, base):
    """Add the sums of a few rows, in the precision of the maps, to the totals in 64 bits."""
    for i in range(sums.shape[0]):
        totals[base + i] += sums[i]
        sums[i] = 0


@compiled
def statistics(start, stop, lanes, layout, x, totals):
    """Write for units ``start`` to ``stop`` into ``totals`` (units, 3, width), 64 bits: numbers near
    the means, and the sums of what deviates from these and of its squares."""
    step, rows, width, distance, place = layout
    shift = np.empty(width, x.dtype)
    sums = np.zeros(2 * width, x.dtype)
    zeros = np.zeros(len(lanes), x.dtype)
    share = x.dtype.type(1 / TILE)
    for unit in range(start, stop):
        first, last = unit * step, min((unit + 1) * step, rows)
        base = unit * 3 * width
        for begin in range(first, last, TILE):
            end = min(begin + TILE, last)
            for c in range(0, width, len(lanes)):
                if begin == first:
                    near = load(zeros, 0, lanes)
                    for r in range(begin, end):
                        near = near + load(x, r * distance + place + c, lanes) * share
                    store(shift, c, near)
                near = load(shift, c, lanes)
                total, squares = load(sums, c, lanes), load(sums, width + c, lanes)
                for r in range(begin, end):
                    d = load(x, r * distance + place + c, lanes) - near
                    total = total + d
                    squares = squares + d * d
                store(sums, c, total)
                store(sums, width + c, squares)
            if (end - first) % BLOCK == 0:
                _flush(sums, totals, base + width)
        _flush(sums, totals, base + width)
        for c in range(width):
            totals[base + c] = shift[c]


@compiled
def finish_statistics(layout, totals, eps, momentum, weight, running, table):
    """Mean, scale and 1 / standard deviation of every channel into ``table`` (3, width), and the
    running mean and variance, a tuple, moved towards those of the batch."""
    step, rows, width = layout[:3]
    for c in range(width):
        count, mean, squares = 0.0, 0.0, 0.0
        for unit in range(-(-rows // step)):
            number = float(min(step, rows - unit * step))
            total = totals[(3 * unit + 1) * width + c]
            other = totals[3 * unit * width + c] + total / number
            delta = other - mean
            mean += delta * number / (count + number)
            squares += totals[(3 * unit + 2) * width + c] - total * total / number
            squares += delta * delta * count * number / (count + number)
            count += number
        inverse = 1 / np.sqrt(squares / rows + eps)
        table[c], table[width + c], table[2 * width + c] = mean, weight[c] * inverse, inverse
        running[0][c] += momentum * (mean - running[0][c])
        running[1][c] += momentum * (squares / (rows - 1) - running[1][c])


@compiled
def forward(start, stop, lanes, act, layout, x, table, other, other_table, bias, out):
    """Units ``start`` to ``stop`` of ``out`` (rows, width)."""
    step, rows, width, distance, place = layout
    one = x.dtype.type(1)
    for begin in range(start * step, min(stop * step, rows), TILE):
        end = min(begin + TILE, min(stop * step, rows))
        for c in range(0, width, len(lanes)):
            mean, scale = load(table, c, lanes), load(table, width + c, lanes)
            low = load(bias, c, lanes)
            if other is not None:
                other_mean = load(other_table, c, lanes)
                other_scale = load(other_table, width + c, lanes)
            for r in range(begin, end):
                z = (load(x, r * distance + place + c, lanes) - mean) * scale + low
                if other is not None:
                    z = z + (load(other, r * width + c, lanes) - other_mean) * other_scale
                store(out, r * width + c, _activated(act, z, one))


@compiled
def reduce(start, stop, lanes, act, layout, x, table, other, other_table, bias, grad, totals):
    """Write for units ``start`` to ``stop`` into ``totals`` (units, 3, width), 64 bits: sums of the
    gradient of z, and of its products with x - mean and other - other_mean."""
    step, rows, width, distance, place = layout
    one = x.dtype.type(1)
    sums = np.zeros(3 * width, x.dtype)
    for unit in range(start, stop):
        first, last = unit * step, min((unit + 1) * step, rows)
        base = unit * 3 * width
        for begin in range(first, last, TILE):
            end = min(begin + TILE, last)
            for c in range(0, width, len(lanes)):
                mean, scale = load(table, c, lanes), load(table, width + c, lanes)
                low = load(bias, c, lanes)
                total, products = load(sums, c, lanes), load(sums, width + c, lanes)
                if other is not None:
                    other_mean = load(other_table, c, lanes)
                    other_scale = load(other_table, width + c, lanes)
                    others = load(sums, 2 * width + c, lanes)
                for r in range(begin, end):
                    d = load(x, r * distance + place + c, lanes) - mean
                    z = d * scale + low
                    if other is not None:
                        e = load(other, r * width + c, lanes) - other_mean
                        z = z + e * other_scale
                    g = _before_activation(act, z, load(grad, r * width + c, lanes), one)
                    total = total + g
                    products = products + g * d
                    if other is not None:
                        others = others + g * e
                store(sums, c, total)
                store(sums, width + c, products)
                if other is not None:
                    store(sums, 2 * width + c, others)
            if (end - first) % BLOCK == 0:
                _flush(sums, totals, base)
        _flush(sums, totals, base)


@compiled
def finish_reduction(layout, totals, index, table, affine, means):
    """Gradients of weight and bias into ``affine`` (2, width); into ``means`` (2, width) what
    :func:`backward` subtracts. ``index`` is 1 for x, 2 for other."""
    step, rows, width = layout[:3]
    for c in range(width):
        total, product = 0.0, 0.0
        for unit in range(-(-rows // step)):
            total += totals[3 * unit * width + c]
            product += totals[(3 * unit + index) * width + c]
        inverse = table[2 * width + c]
        affine[c], affine[width + c] = product * inverse, total
        means[c], means[width + c] = total / rows, product * inverse * inverse / rows


@compiled
def backward(
    start,
    stop,
    lanes,
    act,
    layout,
    x,
    table,
    other,
    other_table,
    bias,
    grad,
    means,
    others,
    out,
    out2,
):
    """Units ``start`` to ``stop`` of the gradients ``out`` of x, laid out as x is, and ``out2`` of
    other: scale * (g - mean of g - deviation * mean of products)."""
    step, rows, width, distance, place = layout
    one = x.dtype.type(1)
    for begin in range(start * step, min(stop * step, rows), TILE):
        end = min(begin + TILE, min(stop * step, rows))
        for c in range(0, width, len(lanes)):
            mean, scale = load(table, c, lanes), load(table, width + c, lanes)
            low = load(bias, c, lanes)
            mean_g, slope = load(means, c, lanes), load(means, width + c, lanes)
            if other is not None:
                other_mean = load(other_table, c, lanes)
                other_scale = load(other_table, width + c, lanes)
                other_g, other_slope = load(others, c, lanes), load(others, width + c, lanes)
            for r in range(begin, end):
                at = r * distance + place + c
                d = load(x, at, lanes) - mean
                z = d * scale + low
                if other is not None:
                    e = load(other, r * width + c, lanes) - other_mean
                    z = z + e * other_scale
                g = _before_activation(act, z, load(grad, r * width + c, lanes), one)
                store(out, at, (g - mean_g - d * slope) * scale)
                if other is not None:
                    store(out2, r * width + c, (g - other_g - e * other_slope) * other_scale)

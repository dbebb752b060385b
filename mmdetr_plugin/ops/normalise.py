"""Batch norms in training, what is added to them, activation and pooling, in one pass on the CPU.

torch reads and writes the whole map for the norm, the sum and the activation one after the other, in
the backward pass too. Here one compiled loop computes them together (`ops/norm_kernels.py` and
`ops/norm_pool_kernels.py`), and the backward pass computes what lay between again.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .threads import run_units

NUMBA = importlib.util.find_spec('numba')
ACTIVATIONS: dict[type[nn.Module] | None, tuple[float, ...]] = {
    None: (0.0,),
    nn.Identity: (0.0,),
    nn.ReLU: (0.0,) * 2,
    nn.SiLU: (0.0,) * 3,
}
"""The activations that the loops know, by the code that they are given."""
LANES = (0.0,) * 16
"""One vector of the loops: one register of 512 bits in single precision."""
UNIT = 2**15
"""Numbers in the smallest unit of work."""
MOST_UNITS = 16


def normalised(
    norm: nn.Module, x: Tensor, activation: nn.Module | None = None, other: Tensor | None = None
) -> Tensor:
    """``activation(norm(x) + other)`` for maps (B, C, H, W); ``other`` may be left out.

    ``x`` may be overwritten, as the output of a convolution that nobody else reads.
    """
    if takes_loops([norm], [x, other], activation):
        return _Sum.apply(_code(activation), [norm], x, other, *_affine(norm), None, None)
    out = norm(x)
    if other is not None:
        out += other
    return out if activation is None else activation(out)


def normalised_sum(
    norms: Sequence[nn.Module], maps: Sequence[Tensor], activation: nn.Module | None = None
) -> Tensor:
    """``activation(norms[0](maps[0]) + norms[1](maps[1]))`` for maps (B, C, H, W)."""
    if takes_loops(norms, maps, activation):
        affine = [x for norm in norms for x in _affine(norm)]
        return _Sum.apply(_code(activation), list(norms), *maps, *affine)
    out = norms[0](maps[0]) + norms[1](maps[1])
    return out if activation is None else activation(out)


def normalised_parts(
    norms: Sequence[nn.Module], x: Tensor, activation: nn.Module | None = None
) -> list[Tensor]:
    """One map ``activation(norm(part))`` for each norm, of the parts of the channels of ``x``."""
    if takes_loops(norms, [x], activation):
        affine = [y for norm in norms for y in _affine(norm)]
        return list(_Parts.apply(_code(activation), list(norms), x, *affine))
    parts = x.split([norm.num_features for norm in norms], 1)
    return [normalised(norm, part, activation) for norm, part in zip(norms, parts, strict=True)]


def normalised_max(norm: nn.Module, x: Tensor, activation: nn.Module, pool: nn.Module) -> Tensor:
    """``pool(activation(norm(x)))`` for maps (B, C, H, W)."""
    if type(activation) is nn.ReLU and takes_loops([norm], [x], activation) and _plain_pool(pool):
        return _Max.apply(norm, x, *_affine(norm))
    return pool(normalised(norm, x, activation))


def takes_loops(
    norms: Sequence[nn.Module], maps: Sequence[Tensor | None], activation: nn.Module | None
) -> bool:
    """Whether the compiled loops can do it; if not, torch's own functions must.

    They can in single precision, for norms in training mode and maps in channels-last order.
    """
    return (
        _code(activation) is not None
        and NUMBA is not None
        and not torch.is_autocast_enabled('cpu')
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and all(map(_plain_norm, norms))
        and all(x is None or _plain_map(x) for x in maps)
    )


def _plain_norm(norm: nn.Module) -> bool:
    """Whether it is a batch norm in training, with everything that one usually has."""
    return (
        isinstance(norm, nn.BatchNorm2d)  # not SyncBatchNorm
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and norm.num_features % len(LANES) == 0
        and norm.weight.dtype == torch.float32
        and not (norm._forward_hooks or norm._forward_pre_hooks)
    )


def _plain_map(x: Tensor) -> bool:
    return (
        type(x) is Tensor
        and x.device.type == 'cpu'
        and x.dtype == torch.float32
        and x.dim() == 4
        and x.numel() > x.shape[1]  # the variance of one number is not defined
        and x.permute(0, 2, 3, 1).is_contiguous()
    )


def _plain_pool(pool: nn.Module) -> bool:
    """Whether it is that of ResNet: windows of 3 x 3, two cells apart."""
    return (
        type(pool) is nn.MaxPool2d
        and (pool.kernel_size, pool.stride, pool.padding, pool.dilation) == (3, 2, 1, 1)
        and not (pool.ceil_mode or pool.return_indices)
        and not (pool._forward_hooks or pool._forward_pre_hooks)
    )


def _code(activation: nn.Module | None) -> tuple[float, ...] | None:
    hooked = activation is not None and (activation._forward_hooks or activation._forward_pre_hooks)
    kind = None if activation is None else type(activation)
    return None if hooked else ACTIVATIONS.get(kind)


def _affine(norm: Any) -> tuple[Tensor, Tensor]:
    return norm.weight, norm.bias


class Layout(NamedTuple):
    """What the loops call so."""

    step: int
    rows: int
    width: int
    distance: int
    place: int

    @property
    def units(self) -> int:
        return -(-self.rows // self.step)

    def run(self, kernel: Any, *args: object) -> None:
        run_units(kernel, self.units, self.units, LANES, *args)


def _layout(shape: Sequence[int], width: int, place: int = 0) -> Layout:
    """The cells of a map of this shape (B, C, H, W) as rows, of which ``width`` channels are read."""
    rows = shape[0] * shape[2] * shape[3]
    units = min(MOST_UNITS, -(-rows * width // UNIT))
    return Layout(-(-rows // units), rows, width, shape[1], place)


def _lines(shape: Sequence[int]) -> Layout:
    """The lines of cells of a map of this shape as rows."""
    rows = shape[0] * shape[2]
    step = -(-rows // _layout(shape, shape[1]).units)
    return Layout(step, rows, shape[1], shape[1], 0)


def _flat(x: Tensor) -> np.ndarray:
    """The numbers of a map, channels last; a copy only if their order in memory is another."""
    x = x.detach()
    x = x.permute(0, 2, 3, 1) if x.dim() == 4 else x
    return x.contiguous().view(-1).numpy()


def _numbers(parameter: Tensor) -> np.ndarray:
    """A copy: FSDP frees the memory of parameters, and torch cannot free what numpy shares."""
    return parameter.detach().clone().numpy()


def _empty(shape: Sequence[int], width: int) -> Tensor:
    """A map of the size of one of ``shape`` (B, C, H, W), with ``width`` channels.

    numpy asks for huge pages, torch does not: the first write to a large map then takes a third of the
    time.
    """
    batch, _, height, right = shape
    return torch.from_numpy(np.empty((batch, height, right, width), np.float32)).permute(0, 3, 1, 2)


def _table(norm: Any, x: np.ndarray, layout: Layout) -> np.ndarray:
    """Mean, scale and 1 / standard deviation of the channels (3 * C); the running ones are updated."""
    from . import norm_kernels as kernels

    totals = np.zeros(layout.units * 3 * layout.width)
    layout.run(kernels.statistics, tuple(layout), x, totals)
    table = np.empty(3 * layout.width, x.dtype)
    running = norm.running_mean.numpy(), norm.running_var.numpy()
    weight = _numbers(norm.weight)
    kernels.finish_statistics(
        tuple(layout), totals, norm.eps, norm.momentum, weight, running, table
    )
    norm.num_batches_tracked += 1
    return table


def _neutral(width: int) -> np.ndarray:
    """The table of a map without a norm: mean 0, scale 1."""
    table = np.zeros(3 * width, np.float32)
    table[width:] = 1
    return table


def _computed(code: tuple[float, ...], layout: Layout, x: Tensor, *rest: object) -> Tensor:
    """The result of the forward loop; ``rest``: its tables, the other map and the bias."""
    from . import norm_kernels as kernels

    out = _empty(x.shape, layout.width)
    layout.run(kernels.forward, code, tuple(layout), _flat(x), *rest, _flat(out))
    return out


def _reduced(layout: Layout, common: tuple[object, ...]) -> np.ndarray:
    """The sums (units * 3 * C) that the gradients are made of."""
    from . import norm_kernels as kernels

    totals = np.zeros(layout.units * 3 * layout.width)
    layout.run(kernels.reduce, *common, totals)
    return totals


class _Gradients(NamedTuple):
    """Of one map and its norm."""

    affine: np.ndarray
    means: np.ndarray


def _gradients(layout: Layout, totals: np.ndarray, index: int, table: np.ndarray) -> _Gradients:
    from . import norm_kernels as kernels

    affine, means = np.empty((2, 2 * layout.width), table.dtype)
    kernels.finish_reduction(tuple(layout), totals, index, table, affine, means)
    return _Gradients(affine, means)


class _Sum(torch.autograd.Function):
    """One map with a norm, and possibly another with a norm or without."""

    @staticmethod
    def forward(
        ctx: Any,
        code: tuple[float, ...],
        norms: list[Any],
        x: Tensor,
        other: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        other_weight: Tensor | None,
        other_bias: Tensor | None,
    ) -> Tensor:
        layout = _layout(x.shape, x.shape[1])
        table = _table(norms[0], _flat(x), layout)
        low, second, other_table = _numbers(bias), None, None
        if other is not None:
            second = _flat(other)
            if other_bias is None:
                other_table = _neutral(layout.width)
            else:
                other_table = _table(norms[1], second, layout)
                low = low + _numbers(other_bias)
        out = _computed(code, layout, x, table, second, other_table, low)
        ctx.save_for_backward(x, other)
        ctx.code, ctx.layout, ctx.normed = code, layout, len(norms)
        ctx.tables = table, other_table, low
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        from . import norm_kernels as kernels

        x, other = ctx.saved_tensors
        layout, (table, other_table, low) = ctx.layout, ctx.tables
        second = None if other is None else _flat(other)
        common = (ctx.code, tuple(layout), _flat(x), table, second, other_table, low, _flat(grad))
        totals = _reduced(layout, common)
        first = _gradients(layout, totals, 1, table)
        others = others_out = grad_other = None
        affine: list[Tensor | None] = [*torch.from_numpy(first.affine).split(layout.width)]
        if other is not None:
            grad_other = _empty(x.shape, layout.width)
            others_out = _flat(grad_other)
            others = np.zeros(2 * layout.width, np.float32)
            if ctx.normed == 2:
                later = _gradients(layout, totals, 2, other_table)
                others = later.means
                affine += torch.from_numpy(later.affine).split(layout.width)
        affine += [None] * (4 - len(affine))
        out = _empty(x.shape, layout.width)
        layout.run(kernels.backward, *common, first.means, others, _flat(out), others_out)
        return None, None, out, grad_other, *affine


class _Parts(torch.autograd.Function):
    """Parts of the channels of one map, each with a norm."""

    @staticmethod
    def forward(
        ctx: Any, code: tuple[float, ...], norms: list[Any], x: Tensor, *affine: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x)
        ctx.code, ctx.parts, outs, place = code, [], [], 0
        for norm, bias in zip(norms, affine[1::2], strict=True):
            layout = _layout(x.shape, norm.num_features, place)
            table, low = _table(norm, _flat(x), layout), _numbers(bias)
            outs.append(_computed(code, layout, x, table, None, None, low))
            ctx.parts.append((layout, table, low))
            place += layout.width
        return tuple(outs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        from . import norm_kernels as kernels

        (x,) = ctx.saved_tensors
        out = _empty(x.shape, x.shape[1])
        affine: list[Tensor] = []
        for (layout, table, low), grad in zip(ctx.parts, grads, strict=True):
            common = (ctx.code, tuple(layout), _flat(x), table, None, None, low, _flat(grad))
            found = _gradients(layout, _reduced(layout, common), 1, table)
            layout.run(kernels.backward, *common, found.means, None, _flat(out), None)
            affine += torch.from_numpy(found.affine).split(layout.width)
        return None, None, out, *affine


class _Max(torch.autograd.Function):
    """A norm, a ReLU and the largest numbers of 3 x 3 windows, two cells apart."""

    @staticmethod
    def forward(ctx: Any, norm: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        from . import norm_pool_kernels as kernels

        batch, width, *sides = x.shape
        pooled = batch, width, *((side + 1) // 2 for side in sides)
        ctx.shape = *sides, *pooled[2:]
        ctx.table, ctx.low = _table(norm, _flat(x), _layout(x.shape, width)), _numbers(bias)
        out, chosen, places = (_empty(pooled, width) for _ in range(3))
        made = map(_flat, (out, chosen, places))
        lines = _lines(pooled)
        lines.run(kernels.forward, lines, ctx.shape, _flat(x), ctx.table, ctx.low, *made)
        ctx.save_for_backward(x, chosen, places)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        from . import norm_pool_kernels as kernels

        x, chosen, places = ctx.saved_tensors
        width = x.shape[1]
        # Only the numbers that were chosen have a gradient before the norm.
        few = _layout(chosen.shape, width)
        code = ACTIVATIONS[nn.ReLU]
        common = (code, tuple(few), _flat(chosen), ctx.table, None, None, ctx.low, _flat(grad))
        found = _gradients(few, _reduced(few, common), 1, ctx.table)
        means = found.means * (chosen.numel() / x.numel())  # of all numbers
        out = _empty(x.shape, width)
        lines = _lines(chosen.shape)
        rest = _flat(x), ctx.table, means, _flat(places), _flat(grad), _flat(out)
        lines.run(kernels.backward, lines, ctx.shape, *rest)
        return None, out, *torch.from_numpy(found.affine).split(width)

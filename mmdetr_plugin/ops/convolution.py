"""Convolution, batch norm, sum and activation: in inference on the CPU one call of oneDNN's."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from .folding import FoldedConv2d, FoldedNorm, folded_kernel
from .normalise import normalised
from .onednn import only_numbers

FUSED = getattr(torch.ops.mkldnn, '_convolution_pointwise', None)
"""oneDNN's convolution with sum and activation, which ``torch.compile`` uses on the CPU; it has no
gradient. None = this build of torch has no oneDNN."""
ACTIVATIONS: dict[type[nn.Module | None], str] = {
    type(None): 'none',
    nn.Identity: 'none',
    nn.ReLU: 'relu',
    nn.SiLU: 'swish',
}
AFTER_SUM: dict[type[nn.Module | None], str | None] = {
    type(None): None,
    nn.Identity: None,
    nn.ReLU: 'relu',
}
"""oneDNN's names of activations, and those that it knows after a sum."""
NO_NORM = nn.Identity()


def convolved(
    conv: Any,
    norm: nn.Module,
    x: Tensor,
    activation: nn.Module | None = None,
    other: Tensor | None = None,
) -> Tensor:
    """``activation(norm(conv(x)) + other)`` for maps (B, C, H, W); ``other`` may be left out.

    Equal to the parts one after the other, up to rounding; parts with hooks run as they are.
    """
    kind = type(activation)
    known = kind in (ACTIVATIONS if other is None else AFTER_SUM)
    fusible = known and _fusible(conv, norm, activation) and only_numbers(x, conv.weight)
    if FUSED is None or not fusible:
        return normalised(norm, conv(x), activation, other)
    kernel = conv.weight, conv.bias
    if isinstance(norm, FoldedNorm) and conv.bias is None:
        kernel = folded_kernel(conv, norm)
    form = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
    if other is None:
        return FUSED(x, *kernel, *form, ACTIVATIONS[kind], [], '')
    return FUSED.binary(x, other, *kernel, *form, 'add', None, AFTER_SUM[kind], [], None)


def _fusible(conv: Any, norm: nn.Module, activation: nn.Module | None) -> bool:
    """Whether no gradient is asked for, the convolution applies the norm, and no part has hooks."""
    parts = [part for part in (conv, norm, activation) if part is not None]
    return (
        not torch.is_grad_enabled()
        and type(conv) in (nn.Conv2d, FoldedConv2d)
        and (conv.padding_mode, type(conv.padding)) == ('zeros', tuple)
        and (type(norm) is nn.Identity or (type(norm) is FoldedNorm and not norm.training))
        and not any(part._forward_hooks or part._forward_pre_hooks for part in parts)
    )


if FUSED is not None:

    @register_flop_formula(FUSED)
    def _(x: Size, second: Size, third: object, *_: Any, out_shape: Size, **__: Any) -> int:
        weight = third if isinstance(third, Size) and len(third) == len(x) else second  # with a sum
        return 2 * x[0] * prod(out_shape[2:]) * prod(weight)

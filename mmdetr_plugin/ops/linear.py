"""Linear layers with a ReLU after them, in one pass where that is possible."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

FUSED = getattr(torch.ops.mkldnn, '_linear_pointwise', None)
"""oneDNN's product with bias and activation, which ``torch.compile`` uses on the CPU; it has no
gradient. None = this build of torch has no oneDNN."""


def apply_linear(linear: nn.Module, x: Tensor, relu: bool = False) -> Tensor:
    """``linear(x)``, or ``relu(linear(x))``: (..., C) -> (..., D).

    Inference on the CPU in single precision takes one pass over the output in the place of up to three
    (copy the bias, add the product, clamp). Equal up to rounding.
    """
    if FUSED is not None and _plain(linear, x):
        return FUSED(x, linear.weight, linear.bias, 'relu' if relu else 'none', [], '')
    return F.relu(linear(x)) if relu else linear(x)


def _plain(linear: nn.Module, x: Tensor) -> bool:
    """Whether nothing but the numbers is asked for: no gradient, graph, hook or other precision."""
    return (
        not torch.is_grad_enabled()
        and type(linear) is nn.Linear
        and x.device.type == 'cpu'
        and x.dtype == linear.weight.dtype == torch.float32
        and type(x) is Tensor
        and not torch.is_autocast_enabled('cpu')
        and not (linear._forward_hooks or linear._forward_pre_hooks)
        and bool(torch.backends.mkldnn.enabled)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


if FUSED is not None:

    @register_flop_formula(FUSED)
    def _(x: Size, weight: Size, *_: Any, **__: Any) -> int:
        return 2 * prod(x) * weight[0]

"""Linear layers, computed by oneDNN on the CPU, with a ReLU after them in the same pass.

torch computes products of matrices with MKL. On AMD processors with AVX-512 oneDNN, which computes
torch's convolutions, is nearly twice as fast (tools/benchmarks/linear.py).
"""

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
WIDE = torch.backends.cpu.get_cpu_capability().startswith('AVX512')
"""With narrower vectors oneDNN trains no faster than MKL (``ONEDNN_MAX_CPU_ISA=AVX2`` shows it)."""
LEAST = 2**23
"""Multiplications for which the detour over a convolution pays."""


class Linear(nn.Linear):
    """``nn.Linear`` that may be followed by a ReLU: (..., C) -> (..., D).

    Hooks of the layer see the output after the ReLU.
    """

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        return linear(x, self.weight, self.bias, relu)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """``x @ weight.T + bias``, at least 0 with ``relu``; (..., C), (D, C), (D) -> (..., D).

    Inference on the CPU in single precision takes one pass over the output in the place of up to three
    (copy the bias, add the product, clamp). Equal to torch's up to rounding, as are the gradients.
    """
    if FUSED is not None and _only_numbers(x, weight):
        if not torch.is_grad_enabled():
            return FUSED(x, weight, bias, 'relu' if relu else 'none', [], '')
        if WIDE and _large(x, weight):
            x = _convolved(x, weight, bias)
            return F.relu(x) if relu else x
    x = F.linear(x, weight, bias)
    return F.relu(x) if relu else x


def _only_numbers(x: Tensor, weight: Tensor) -> bool:
    """Whether nothing but numbers on the CPU is asked for: no graph, no other precision."""
    return (
        x.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and type(x) is Tensor
        and type(weight) in (Tensor, nn.Parameter)
        and weight.is_contiguous()  # oneDNN takes a thousand times as long for columns of a matrix
        and not torch.is_autocast_enabled('cpu')
        and bool(torch.backends.mkldnn.enabled)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def _large(x: Tensor, weight: Tensor) -> bool:
    """Whether the product is large, and the channels fill whole vectors."""
    outputs, inputs = weight.shape
    return outputs % 16 == inputs % 16 == 0 and x.numel() * outputs >= LEAST


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product as a convolution of one cell, so that oneDNN computes the gradients too."""
    rows = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)
    out = F.conv2d(rows, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


if FUSED is not None:

    @register_flop_formula(FUSED)
    def _(x: Size, weight: Size, *_: Any, **__: Any) -> int:
        return 2 * prod(x) * weight[0]

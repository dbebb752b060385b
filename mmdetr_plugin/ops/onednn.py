"""When oneDNN's own operators may compute a product in the place of torch's."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def only_numbers(x: Tensor, weight: Tensor) -> bool:
    """Whether nothing but numbers on the CPU is asked for: no graph, no other precision."""
    return (
        x.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and type(x) is Tensor
        and type(weight) in (Tensor, nn.Parameter)
        and not torch.is_autocast_enabled('cpu')
        and bool(torch.backends.mkldnn.enabled)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )

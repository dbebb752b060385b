"""TorchScript of a recorded graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from .interface import Interface
from .program import example


class _Outputs(nn.Module):
    """The outputs as a tuple of tensors alone, as TorchScript wants them."""

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        self.graph = program.module(check_guards=False)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(value for value in self.graph(*inputs) if value is not None)


def trace(program: ExportedProgram, interface: Interface, batch: int = 1) -> torch.jit.ScriptModule:
    """The graph by ``torch.jit.trace``, for a batch of this size.

    Raises:
        ValueError: the interface does not fix height and width: tracing turns sizes into numbers.
    """
    if interface.fixed is None:
        raise ValueError(
            'TorchScript needs a graph of one size, as tracing turns sizes into numbers, got one of '
            'any size; make it with fixed=(height, width)'
        )
    inputs = tuple(example(interface, batch))
    with torch.no_grad():
        return torch.jit.trace(_Outputs(program), inputs, check_trace=False)

"""TorchScript of a recorded graph."""

from __future__ import annotations

import torch

from .graph import DetectionGraph
from .interface import Interface
from .program import capture, example


def trace(graph: DetectionGraph, interface: Interface, batch: int = 1) -> torch.jit.ScriptModule:
    """The graph by ``torch.jit.trace``, for a batch of this size.

    Raises:
        ValueError: the interface does not fix height and width: tracing turns sizes into numbers.
    """
    if interface.fixed is None:
        raise ValueError(
            'TorchScript needs a graph of one size, as tracing turns sizes into numbers, got one of '
            'any size; make it with fixed=(height, width)'
        )
    program = capture(graph, interface, batch)
    with torch.no_grad():
        inputs = tuple(example(interface, batch))
        return torch.jit.trace(program.module(check_guards=False), inputs, check_trace=False)

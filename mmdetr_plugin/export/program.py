"""Recording a graph with ``torch.export``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from .graph import DetectionGraph
from .interface import Interface
from .limits import check_exportable

LARGEST = 64
"""Multiples of the divisor along a side, and images of a batch, that the program promises to take."""


def example(interface: Interface, batch: int = 2, cells: tuple[int, int] = (5, 7)) -> list[Tensor]:
    """Inputs of a graph: noise of ``cells`` times the divisor, or of the fixed size. Each image but the
    first is padded."""
    height, width = interface.fixed or [side * interface.divisor for side in cells]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, height, width), generator=generator).to(torch.uint8)
    if not interface.keep_ratio:
        return [images]
    sizes = [(height - i * height // 8, width - i * width // 5) for i in range(batch)]
    for image, (rows, columns) in zip(images, sizes):
        image[:, rows:] = 0
        image[:, :, columns:] = 0
    return [images, torch.tensor(sizes)]


def capture(
    graph: DetectionGraph, interface: Interface, batch: int | None = None
) -> ExportedProgram:
    """The graph of any batch, and of any height and width unless the interface fixes them.

    Args:
        batch: the only number of images that it takes, where the size is fixed too; None = any.

    Raises:
        ValueError: the model cannot be exported: see :mod:`.limits`, or torch says why.
    """
    check_exportable(graph.model, interface.fixed is not None)
    number = Dim('batch', min=1, max=LARGEST)
    sides: dict[int, Any] = {0: number}
    if interface.fixed is None:
        for axis, name in ((2, 'rows'), (3, 'columns')):
            sides[axis] = interface.divisor * Dim(name, min=1, max=LARGEST)
    shapes = {'images': sides, 'sizes': {0: number}}
    dynamic = {name: shapes[name] for name in interface.names} if batch is None else None
    try:
        with torch.no_grad():
            return torch.export.export(
                graph.eval(),
                tuple(example(interface, batch or 2)),
                dynamic_shapes=dynamic,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except RuntimeError as error:  # what torch's own errors are
        what = 'any size' if interface.fixed is None else 'one size'
        raise ValueError(
            f'torch.export cannot record this model for {what}: {str(error).strip().splitlines()[0]}; '
            'give one size with --fixed HEIGHT WIDTH, or replace the part that it names'
        ) from error

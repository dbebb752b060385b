"""Writing a graph as an ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from .graph import OUTPUTS
from .interface import Interface

OPSET = 18
"""Of the standard operators, which TensorRT 10 and OpenVINO read."""


def write_onnx(program: ExportedProgram, interface: Interface, path: Path) -> None:
    """Write the graph with its weights into one file, with the interface as its metadata."""
    from .translations import translations

    count = len(program.graph_signature.user_outputs)
    with warnings.catch_warnings(), quiet('torch.onnx', 'onnxscript', 'onnx_ir'):
        warnings.simplefilter('ignore')
        made: Any = torch.onnx.export(
            program,
            input_names=list(interface.names),
            output_names=list(OUTPUTS[:count]),
            opset_version=OPSET,
            custom_translation_table=translations(),
            dynamo=True,
            verbose=False,
        )
    made.model.metadata_props.update(interface.metadata())
    made.save(str(path), external_data=False)


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """While open, the loggers of these names give errors alone."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

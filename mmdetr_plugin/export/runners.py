"""Running exported files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .check import Run


def onnx_runner(path: Path, threads: int | None = None) -> Run:
    """The file in ONNX Runtime, on the CPU.

    Args:
        threads: to compute with; None = as many as ``OMP_NUM_THREADS`` says, or all.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = _threads(threads)
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, inputs), strict=True))

    return run


def openvino_runner(path: Path, threads: int | None = None, precision: str = 'f32') -> Run:
    """An ONNX file or OpenVINO's own in OpenVINO, on the CPU.

    Args:
        threads: as for :func:`onnx_runner`.
        precision: of the computation, ``f32`` or ``bf16``.
    """
    import openvino

    core = openvino.Core()
    options = {'INFERENCE_NUM_THREADS': _threads(threads), 'INFERENCE_PRECISION_HINT': precision}
    compiled = core.compile_model(core.read_model(str(path)), 'CPU', options)
    names = [next(iter(sorted(output.names))) for output in compiled.outputs]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = compiled(inputs)
        return {name: made[i].copy() for i, name in enumerate(names)}

    return run


def _threads(threads: int | None) -> int:
    return threads or int(os.environ.get('OMP_NUM_THREADS') or 0)


def capabilities() -> list[str]:
    """What OpenVINO can compute with on this processor, e.g. ``BF16``."""
    import openvino

    return list(openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))

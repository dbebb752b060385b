"""Running exported files."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .check import Run

if TYPE_CHECKING:
    from openvino import CompiledModel


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
    compiled = _compiled(path, threads, precision)
    names = [next(iter(sorted(output.names))) for output in compiled.outputs]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = compiled(inputs)
        return {name: made[i].copy() for i, name in enumerate(names)}

    return run


def openvino_profile(
    path: Path,
    inputs: dict[str, np.ndarray],
    threads: int | None = None,
    precision: str = 'f32',
    runs: int = 3,
) -> dict[str, float]:
    """Where OpenVINO's time goes: milliseconds by type of operator, the longest first.

    Args:
        path, threads, precision: as for :func:`openvino_runner`.
        inputs: of the graph.
        runs: the last of them is measured.
    """
    request = _compiled(path, threads, precision, PERF_COUNT=True).create_infer_request()
    for _ in range(runs):
        request.infer(inputs)
    times: Counter[str] = Counter()
    for node in request.profiling_info:
        times[node.node_type] += 1e3 * node.real_time.total_seconds()
    return dict(times.most_common())


def _compiled(path: Path, threads: int | None, precision: str, **options: bool) -> CompiledModel:
    import openvino

    core = openvino.Core()
    settings = {'INFERENCE_NUM_THREADS': _threads(threads), 'INFERENCE_PRECISION_HINT': precision}
    return core.compile_model(core.read_model(str(path)), 'CPU', {**settings, **options})


def _threads(threads: int | None) -> int:
    return threads or int(os.environ.get('OMP_NUM_THREADS') or 0)


def capabilities() -> list[str]:
    """What OpenVINO can compute with on this processor, e.g. ``BF16``."""
    import openvino

    return list(openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))

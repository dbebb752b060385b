"""From a loaded model to files that were checked."""

from __future__ import annotations

import copy
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..detector import DETR
from ..inference.output import check_writable
from ..inference.predictor import Predictor
from ..structures import Size
from .check import Difference, compare
from .graph import DetectionGraph
from .interface import Interface, interface_of
from .onnx_file import write_onnx
from .openvino_file import write_openvino
from .program import capture
from .runners import onnx_runner, openvino_runner

HALF_FACTOR = 10.0
"""By how much the tolerances are wider in half precision."""
SUFFIX = '.onnx'


class DifferenceError(Exception):
    """A file finds other things than the model."""


def interface_for(predictor: Predictor, fixed: Size | None = None) -> Interface:
    """The interface of a loaded model.

    Raises:
        ValueError: it is not one of this project's detectors, or see :func:`.interface.interface_of`.
    """
    model = predictor.model
    if not isinstance(model, DETR):
        raise ValueError(
            f'a model of this project can be exported, got {type(model).__name__}; choose a config '
            'whose model is mmdetr_plugin.DETR'
        )
    divisor = getattr(model.data_preprocessor, 'pad_size_divisor', 1)
    return interface_of(model.cfg, divisor, predictor.classes, fixed)


def check_installed(openvino: bool = False) -> None:
    """Check that the packages of the extra ``export`` are there.

    Raises:
        ValueError: one is missing.
    """
    needed = ['onnx', 'onnxscript', 'onnxruntime', *(['openvino'] if openvino else [])]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f'exporting needs the packages {needed}, but {missing} are not installed; pip install '
            "'.[export]'"
        )


def export(
    predictor: Predictor,
    path: Path,
    fixed: Size | None = None,
    half: bool = False,
    openvino: bool = False,
    report: Callable[[str], None] = print,
) -> list[Path]:
    """Write a model as ONNX, and compare what the file finds with what the model finds.

    Files appear by their names once all of them are written and compared.

    Args:
        predictor: a loaded model on the CPU, whose weights are in single precision.
        path: of the file to write.
        fixed: (height, width) of the only images that it takes; None = see :class:`Interface`.
        half: compute in 16 bits, but for places, norms and softmax.
        openvino: write the model in OpenVINO's format too.
        report: gets a line about each comparison.

    Returns:
        The files.

    Raises:
        ValueError: the model cannot be exported, or an argument does not fit.
        PermissionError: nothing can be written there.
        DifferenceError: what a file finds differs by more than is allowed.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f'the file must end in {SUFFIX}, got {path}; rename it')
    check_installed(openvino)
    interface = interface_for(predictor, fixed)
    check_writable(path.parent)
    model = predictor.model
    assert isinstance(model, DETR)
    graph = DetectionGraph(model)
    if half:  # the input and the post-processing stay as they are
        graph.model.half()
        model = copy.deepcopy(model).half()
    with tempfile.TemporaryDirectory(prefix='.export-', dir=path.parent) as name:
        folder = Path(name)
        made = folder / path.name
        write_onnx(capture(graph, interface), interface, made)
        _check('ONNX Runtime', compare(onnx_runner(made), model, interface), half, report)
        if openvino:
            xml = made.with_suffix('.xml')
            write_openvino(made, interface, xml, half)
            _check('OpenVINO', compare(openvino_runner(xml), model, interface), half, report)
        files = sorted(folder.iterdir())
        for file in files:
            file.replace(path.parent / file.name)
    return [path.parent / file.name for file in files]


def _check(runtime: str, found: Difference, half: bool, report: Callable[[str], None]) -> None:
    factor = HALF_FACTOR if half else 1.0
    report(f'{runtime} and PyTorch: largest difference of {found}')
    if not found.within(factor):
        raise DifferenceError(
            f'what {runtime} finds must be within {Difference.limits(factor)} of what PyTorch finds, '
            f'got {found}; nothing was written'
        )

"""Writing a graph in OpenVINO's own format."""

from __future__ import annotations

from pathlib import Path

from .interface import Interface


def write_openvino(onnx: Path, interface: Interface, path: Path, half: bool = False) -> None:
    """Convert an ONNX file to ``path`` (.xml) and a file of weights by the same name (.bin).

    Args:
        half: write the weights in 16 bits.
    """
    import openvino

    model = openvino.Core().read_model(str(onnx))  # openvino.convert_model reports home that it ran
    for name, value in interface.metadata().items():
        model.set_rt_info(value, ['mmdetr_plugin', name])
    openvino.save_model(model, str(path), compress_to_fp16=half)

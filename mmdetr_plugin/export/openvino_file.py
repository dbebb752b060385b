"""Writing a graph in OpenVINO's own format."""

from __future__ import annotations

from pathlib import Path


def write_openvino(onnx: Path, path: Path, half: bool = False) -> None:
    """Convert an ONNX file to ``path`` (.xml) and a file of weights by the same name (.bin).

    Args:
        half: write the weights in 16 bits.
    """
    import openvino

    made = openvino.convert_model(str(onnx))
    openvino.save_model(made, str(path), compress_to_fp16=half)

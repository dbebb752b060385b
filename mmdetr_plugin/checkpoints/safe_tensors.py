"""Files of ``safetensors``, which hold only weights, so that reading them runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

SUFFIX = '.safetensors'


def read_tensors(path: str | Path, device: str = 'cpu') -> dict[str, Tensor]:
    """The tensors of a file.

    Raises:
        ValueError: the file has another format or is cut short, or safetensors is not installed.
    """
    package = _package(path)
    try:
        return package.torch.load_file(Path(path), device=device)
    except package.SafetensorError as error:
        raise ValueError(
            f'{path} must be a complete file of safetensors, but cannot be read ({error}); it may be '
            'cut short: copy it again'
        ) from error


def tensor_bytes(weights: Mapping[str, Tensor], path: str | Path) -> bytes:
    """The content of a file ``path`` with these weights; tensors that share memory are copied.

    Raises:
        ValueError: an entry is no tensor, or safetensors is not installed.
    """
    others = [name for name, value in weights.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(
            f'{path} can hold only tensors, got {others[:3]} too; leave these out, or name the file '
            '.pth'
        )
    copies = {name: value.detach().clone().contiguous() for name, value in weights.items()}
    return _package(path).torch.save(copies, metadata={'format': 'pt'})


@CheckpointLoader.register_scheme(prefixes=r'(?!\w+://).*\.safetensors$', force=True)
def load_from_safetensors(path: str, map_location: str | torch.device | None = None) -> dict:
    """MMEngine's loader of a local file, e.g. for ``load_from``."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f'the checkpoint must be a file, got {file}; check the path')
    return read_tensors(file, str(map_location or 'cpu'))


def _package(path: str | Path) -> ModuleType:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ValueError(
            f"{path} needs safetensors, which is not installed; pip install '.[hf]'"
        ) from error
    return safetensors

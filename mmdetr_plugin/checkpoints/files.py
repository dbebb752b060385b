"""Checkpoint files: read without running code, written atomically."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import torch

from .bounds import check_archive, check_bounds
from .safe_globals import register_safe_globals
from .safe_tensors import SUFFIX, read_tensors, tensor_bytes

ASIDE = '.tmp'
DAMAGED = (
    RuntimeError,
    EOFError,
    LookupError,
    AssertionError,
    AttributeError,
    TypeError,
    ValueError,
    OverflowError,
    MemoryError,
    OSError,
    zipfile.BadZipFile,
    struct.error,
)
"""Errors of torch.load for files that are damaged or no checkpoints."""


def read_checkpoint(path: str | Path) -> dict:
    """A checkpoint as a dictionary on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a checkpoint, is cut short, has changed since it was written, would
            run code when loaded, or asks for more memory than its size explains.
    """
    path = Path(path)
    if path.is_dir():
        raise FileNotFoundError(
            f'the checkpoint must be a file, got the folder {path}; name a file in it, or, if '
            'DeepSpeed wrote it, make one with the zero_to_fp32.py beside it'
        )
    if not path.is_file():
        raise FileNotFoundError(f'the checkpoint must be a file, got {path}; check the path')
    if path.suffix == SUFFIX:
        return read_tensors(path)
    try:
        check_archive(path)
        register_safe_globals()
        checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'{path} must hold tensors and plain values only, but loading it would run other code or '
            f'it is no checkpoint ({_found(error)}); save its state_dict alone with a version you trust'
        ) from error
    except DAMAGED as error:
        raise ValueError(
            f'{path} must be a checkpoint written by torch.save, but cannot be read ({_found(error)}); '
            'it may be cut short: copy it again'
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise ValueError(
            f'{path} must hold a dictionary of weights, got {type(checkpoint).__name__}; '
            'save model.state_dict()'
        )
    check_bounds(path, checkpoint)
    return dict(checkpoint)


def _found(error: Exception) -> str:
    """The fault that torch reports, without its advice to switch the check off."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return ' '.join(lines[1:2] or lines) or type(error).__name__


def write_checkpoint(checkpoint: Mapping, path: str | Path) -> None:
    """Save a dictionary atomically: the new file replaces one at ``path`` once it is complete.

    A file whose name ends in ``.safetensors`` can hold only tensors.
    """
    content = tensor_bytes(checkpoint, path) if Path(path).suffix == SUFFIX else None
    with written_whole(path) as file:
        if content is None:
            torch.save(dict(checkpoint), file)
        else:
            file.write(content)


@contextmanager
def written_whole(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to, which gets the name ``path`` once it is complete and on the disk.

    If the process is killed or the machine goes down at any moment, ``path`` is either the old file or
    the new one. A killed process may leave a hidden temporary file that ends in `ASIDE`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'.{path.name}.{os.getpid()}{ASIDE}')
    try:
        with aside.open('wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Flush the new name to the disk as well, where the system allows it: Windows opens no folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Checkpoints at a web address, read as safely as files on the disk."""

from __future__ import annotations

import hashlib
import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlparse
from urllib.request import Request, urlopen

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.runner import CheckpointLoader

from .files import read_checkpoint, written_whole

TIMEOUT = 60  # seconds without a byte


def register_safe_loader() -> None:
    """Make MMEngine read checkpoints at ``http(s)://`` by :func:`load_from_address` and files by
    :func:`read_checkpoint`.

    MMEngine's own loaders run code in a pickle, depending on the version of torch.
    """
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_address, force=True)
    CheckpointLoader.register_scheme('', load_from_file, force=True)


def load_from_file(path: str, map_location: object = None) -> dict:
    """The checkpoint in a file, on the CPU, from where weights are copied."""
    return read_checkpoint(Path(path).expanduser())


def load_from_address(address: str, map_location: object = None) -> dict:
    """The checkpoint at an address, on the CPU; fetched once into torch's cache.

    Raises:
        FileNotFoundError: it cannot be fetched.
        ValueError: as :func:`read_checkpoint`.
    """
    file = cached(address)
    if is_main_process():
        _fetch(address, file)
    barrier()
    _fetch(address, file)  # other machines have a cache of their own
    return read_checkpoint(file)


def cached(address: str) -> Path:
    """Where the file at an address is kept; files of one name at two addresses are two files."""
    name = Path(unquote(urlparse(address).path)).name
    name = 'checkpoint.pth' if name in ('', '.', '..') else name
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    return Path(torch.hub.get_dir(), 'checkpoints', digest, name)


def _fetch(address: str, file: Path) -> None:
    if file.is_file():
        return
    try:
        request = Request(address, headers={'User-Agent': 'mmdetr_plugin'})
        with urlopen(request, timeout=TIMEOUT) as answer, written_whole(file) as copy:
            shutil.copyfileobj(answer, copy, 1 << 20)
            stated = answer.headers.get('Content-Length')
            if stated is not None and copy.tell() != int(stated):
                raise OSError(f'the connection ended after {copy.tell()} of {stated} bytes')
    except (OSError, HTTPException, ValueError) as error:
        raise FileNotFoundError(
            f'the checkpoint must be at {address}, but cannot be fetched ({error}); check the address '
            'and the network, or download the file elsewhere and give its path'
        ) from error

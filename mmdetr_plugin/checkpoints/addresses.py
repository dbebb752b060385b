"""Checkpoints at a web address, read as safely as files on the disk."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.runner import CheckpointLoader

from .files import read_checkpoint


def register_safe_loader() -> None:
    """Make MMEngine read checkpoints at ``http(s)://`` by :func:`load_from_address`.

    MMEngine's own loader would run any code in a downloaded pickle.
    """
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_address, force=True)


def load_from_address(address: str, map_location: object = None) -> dict:
    """The checkpoint at an address, on the CPU; fetched into torch's cache once.

    Raises:
        ValueError: as :func:`read_checkpoint`.
    """
    file = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(address).path).name)
    if is_main_process():
        _fetch(address, file)
    barrier()
    _fetch(address, file)  # other machines have a cache of their own
    return read_checkpoint(file)


def _fetch(address: str, file: Path) -> None:
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(file), progress=is_main_process())

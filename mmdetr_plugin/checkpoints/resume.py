"""Finds the checkpoint from which an interrupted run continues."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .files import read_checkpoint

NEEDED = ('meta', 'message_hub', 'state_dict', 'optimizer')
"""Entries that MMEngine saves for resuming, in addition to the schedules."""


def check_resumable(path: str | Path) -> None:
    """Raise unless a run can be resumed from this file; the error names an undamaged one in its folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, is cut short, would run code, or holds only weights.
    """
    path = Path(path).expanduser()
    try:
        _check(path)
    except (FileNotFoundError, ValueError) as error:
        others = (file for file in _newest_first(path.parent) if file != path)
        whole = next((file for file in others if not _fault(file)), None)
        hint = f'; the newest undamaged one in its folder is {whole}' if whole else ''
        raise type(error)(f'{error}{hint}') from error


def latest_checkpoint(folder: str | Path) -> tuple[Path | None, list[str]]:
    """The checkpoint to resume from, and the faults of damaged ones that would have been preferred.

    It is the one in this folder that `last_checkpoint` names, even if the folder was moved or copied
    since, or else the newest undamaged one; None if the run has saved none.

    Raises:
        ValueError: there are checkpoints, but all are damaged.
    """
    faults: list[str] = []
    for path in dict.fromkeys((*_named_last(Path(folder)), *_newest_first(Path(folder)))):
        fault = _fault(path)
        if not fault:
            return path, faults
        faults.append(fault)
    if faults:
        raise ValueError(
            f'{folder} must hold a checkpoint to resume from, got damaged ones: {"; ".join(faults)}; '
            'copy an undamaged one there, or move these away to start from the beginning'
        )
    return None, faults


def _check(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    missing = [key for key in NEEDED if key not in checkpoint]
    if missing:
        raise ValueError(
            f'{path} must be a checkpoint that a run saved for resuming, got one without '
            f'{" and ".join(missing)} (only weights?); to start from its weights, set load_from'
        )


def _fault(path: Path) -> str:
    try:
        _check(path)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    return ''


def _named_last(folder: Path) -> Iterator[Path]:
    pointer = folder / 'last_checkpoint'
    name = pointer.read_text(encoding='utf-8').strip() if pointer.is_file() else ''
    if name and (folder / Path(name).name).is_file():
        yield folder / Path(name).name


def _newest_first(folder: Path) -> list[Path]:
    """Checkpoints of epochs and iterations, by the names that MMEngine gives them. That of the best
    score holds no optimizer, so it is not among them."""
    files = [file for name in ('epoch', 'iter') for file in folder.glob(f'{name}_*.pth')]
    numbered = {file: re.search(r'_(\d+)$', file.stem) for file in files}
    found = {file: int(number[1]) for file, number in numbered.items() if number}
    return sorted(found, key=found.__getitem__, reverse=True)

"""Which checkpoint an interrupted run goes on from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .files import read_checkpoint

NEEDED = ('meta', 'message_hub', 'state_dict', 'optimizer')
"""What MMEngine saves of a run beside its schedule."""


def check_resumable(path: str | Path) -> None:
    """Raise unless a run can go on from this file; a whole one beside it is named.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, cut short, would run code, or holds weights alone.
    """
    path = Path(path).expanduser()
    try:
        _check(path)
    except (FileNotFoundError, ValueError) as error:
        others = (file for file in _newest_first(path.parent) if file != path)
        whole = next((file for file in others if not _fault(file)), None)
        hint = f'; the newest whole one beside it is {whole}' if whole else ''
        raise type(error)(f'{error}{hint}') from error


def latest_checkpoint(folder: str | Path) -> tuple[Path | None, list[str]]:
    """The checkpoint to go on from, None where the run has saved none, and what is wrong with
    those that should have been it.

    That is the one which `last_checkpoint` names, also where the folder was moved, or else the
    newest whole one.

    Raises:
        ValueError: there are checkpoints but no whole one.
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
            'copy a whole one there, or move these away to start anew'
        )
    return None, faults


def _check(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    missing = [key for key in NEEDED if key not in checkpoint]
    if missing:
        raise ValueError(
            f'{path} must be a checkpoint that a run saved to go on from, got one without '
            f'{" and ".join(missing)} (weights alone?); to start from its weights, set load_from'
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
    if name:
        yield from (path for path in (Path(name), folder / Path(name).name) if path.is_file())


def _newest_first(folder: Path) -> list[Path]:
    """Checkpoints by the names that MMEngine gives them; that of the best score is not one of them:
    it holds no optimizer."""
    files = [file for name in ('epoch', 'iter') for file in folder.glob(f'{name}_*.pth')]
    numbered = {file: re.search(r'_(\d+)$', file.stem) for file in files}
    found = {file: int(number[1]) for file, number in numbered.items() if number}
    return sorted(found, key=found.__getitem__, reverse=True)

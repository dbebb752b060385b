"""Bounds on what a checkpoint file may ask for, and its checksums."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

DEPTH = 100
"""How deep dictionaries and lists of a checkpoint may be nested."""

ENTRIES = 10_000_000
"""The largest number of entries of a checkpoint."""

FACTOR, SLACK = 16, 1 << 28
"""All tensors together may take ``FACTOR`` times the bytes of their file, plus ``SLACK`` bytes. A
tensor with several names counts once for each name."""


def check_archive(path: Path) -> None:
    """Verify the checksums (CRC-32) that torch.save stores with every record of a file.

    Files of the format before torch 1.6 are no archives and have none.

    Raises:
        ValueError: a record has changed, is compressed, or records overlap.
        zipfile.BadZipFile: the archive's directory is damaged.
    """
    with path.open('rb') as file:
        start = file.read(4)
    if start != b'PK\x03\x04':
        return
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        packed = [r.filename for r in records if r.compress_type != zipfile.ZIP_STORED]
        total = sum(record.file_size for record in records)
        if packed or total > path.stat().st_size:
            raise ValueError(
                f'records must be stored as they are, as torch.save does, got {total} bytes in a '
                f'file of {path.stat().st_size}, compressed: {packed[:3]}'
            )
        changed = archive.testzip()
    if changed is not None:
        raise ValueError(f'the checksum of {changed} does not fit: the file has changed since')


def check_bounds(path: Path, checkpoint: Any) -> None:
    """Raise ValueError for nesting, entries or tensors beyond what the file's size explains."""
    size, seen, entries, total = path.stat().st_size, set[int](), 0, 0
    todo: list[tuple[Any, int]] = [(checkpoint, 0)]
    while todo:
        node, depth = todo.pop()
        if isinstance(node, Tensor):
            total += 0 if node.is_meta else node.numel() * node.element_size()
            continue
        if not isinstance(node, (Mapping, list, tuple, set)) or id(node) in seen:
            continue
        seen.add(id(node))
        children = node.values() if isinstance(node, Mapping) else node
        entries += len(node)
        if depth >= DEPTH or entries > ENTRIES:
            raise ValueError(
                f'{path} must have at most {DEPTH} levels and {ENTRIES} entries, got more; '
                'do not load this file'
            )
        todo.extend((child, depth + 1) for child in children)
    if total > FACTOR * size + SLACK:
        raise ValueError(
            f'the tensors of {path} must fit the size of the file, {size} bytes, got {total}; '
            'do not load this file'
        )

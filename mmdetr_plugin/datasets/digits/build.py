"""The digits set: real handwriting on real photographs, made from what scikit-learn bundles.

A detection and panoptic set in COCO's formats that needs no download: 1 to 5 handwritten digits
on a crop of a photograph. Below its root::

    {train,val}/000000.jpg            pictures
    annotations/{train,val}.json      boxes and ink masks (COCO instances)
    panoptic/{train,val}/000000.png   segment ids, R + 256 G + 65536 B
    annotations/panoptic_{train,val}.json
    meta.json                         settings, written last
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .coco import write_split
from .scene import Scene, draw_scene
from .sources import Sources, load_sources

# The glyphs stand writer by writer (scikit-learn's course puts borders at 1287, 1415, 1545, 1667),
# so but for the first 15 validation glyphs nobody's handwriting is in both.
GLYPHS = {'train': range(1400), 'val': range(1400, 1797)}
VERSION = 1  # of the drawing: a set of another version is made anew
SIZES = range(64, 401)  # the photographs are 427 pixels high

_META = 'meta.json'
_STALE_SECONDS = 3600


def make_digits(
    root: str | os.PathLike[str] = 'data/digits',
    num_train: int = 2000,
    num_val: int = 200,
    size: int = 160,
    seed: int = 0,
) -> bool:
    """Write the set below ``root``, unless it is there already with the same settings.

    The same settings give the same files (another major version of OpenCV resizes and encodes a
    little differently); picture i does not depend on how many there are. The set appears whole
    or not at all: it is made beside ``root`` and moved there at the end. A digits set with other
    settings is replaced; any other folder is left alone.

    Args:
        root: Folder of the set.
        num_train: Number of training pictures, of glyphs 0 to 1399.
        num_val: Number of validation pictures, of glyphs 1400 to 1796.
        size: Side of the square pictures in pixels.
        seed: Seed of everything random.

    Returns:
        Whether it was written; False where it was there.

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: A setting out of range.
        FileExistsError: ``root`` holds something that is no digits set.
    """
    if num_train < 1 or num_val < 1:
        raise ValueError(
            'num_train and num_val must be 1 or more, '
            f'got {num_train} and {num_val}; ask for at least one picture of each'
        )
    if size not in SIZES or seed < 0:
        raise ValueError(
            f'size must be {SIZES[0]} to {SIZES[-1]} and seed 0 or more, '
            f'got size {size} and seed {seed}; choose values in range'
        )
    root = Path(root).resolve()
    meta = {
        'name': 'digits',
        'version': VERSION,
        'num_train': num_train,
        'num_val': num_val,
        'size': size,
        'seed': seed,
    }
    if _is_complete(root, meta):
        return False
    _check_replaceable(root)
    sources = load_sources()
    _remove_stale(root)
    partial = root.with_name(f'.{root.name}.partial-{os.getpid()}')
    partial.mkdir(parents=True)
    try:
        for split, count in (('train', num_train), ('val', num_val)):
            write_split(partial, split, _scenes(sources, split, count, size, seed))
        (partial / _META).write_text(json.dumps(meta, indent=2))
        return _move(partial, root, meta)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _scenes(sources: Sources, split: str, count: int, size: int, seed: int) -> Iterator[Scene]:
    for index in range(count):
        rng = np.random.RandomState([seed, list(GLYPHS).index(split), index])
        yield draw_scene(rng, sources, GLYPHS[split], size)


def _read_meta(root: Path) -> dict | None:
    """What ``root`` says of itself; None where it is no digits set."""
    try:
        meta = json.loads((root / _META).read_text())
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) and meta.get('name') == 'digits' else None


def _is_complete(root: Path, meta: dict) -> bool:
    if _read_meta(root) != meta:
        return False
    return all(
        (root / 'annotations' / f'{split}.json').is_file()
        and (root / 'annotations' / f'panoptic_{split}.json').is_file()
        and sum(1 for _ in (root / split).glob('*.jpg')) == count
        and sum(1 for _ in (root / 'panoptic' / split).glob('*.png')) == count
        for split, count in (('train', meta['num_train']), ('val', meta['num_val']))
    )


def _check_replaceable(root: Path) -> None:
    empty = not root.exists() or (root.is_dir() and not any(root.iterdir()))
    if not empty and _read_meta(root) is None:
        raise FileExistsError(
            f'the folder of the digits set must be new, empty or a digits set, got {root}, which '
            f'holds something else (no {_META} of a digits set); name another folder or move it'
        )


def _move(partial: Path, root: Path, meta: dict) -> bool:
    """Put the finished set in its place; False where another process was first."""
    if _is_complete(root, meta):
        return False
    old = partial.with_name(f'{partial.name}-old')
    if root.exists():
        root.rename(old)
    try:
        partial.rename(root)
    except OSError:
        if not _is_complete(root, meta):  # otherwise another process has just moved its own here
            raise
        return False
    finally:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _remove_stale(root: Path) -> None:
    """Remove what killed runs left; a run takes seconds, so an hour old is nobody's any more."""
    for partial in root.parent.glob(f'.{root.name}.partial-*'):
        if time.time() - partial.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(partial, ignore_errors=True)

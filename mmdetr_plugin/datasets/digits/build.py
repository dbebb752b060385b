"""Builds the digits set: real handwriting on real photographs, made from scikit-learn's data.

The set is in COCO's formats for detection and panoptic segmentation and needs no download. Each
picture shows 1 to 5 handwritten digits on a crop of a photograph. The files::

    {train,val}/000000.jpg            pictures
    annotations/{train,val}.json      boxes and ink masks (COCO instances)
    panoptic/{train,val}/000000.png   segment ids, R + 256 G + 65536 B
    annotations/panoptic_{train,val}.json
    meta.json                         the settings, written last
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
from .material import Material, load_material
from .scene import Scene, draw_scene

# The glyphs are sorted by writer (scikit-learn's course gives the borders 1287, 1415, 1545, 1667).
# So no writer is in both splits, except for the first 15 validation glyphs.
GLYPHS = {'train': range(1400), 'val': range(1400, 1797)}
VERSION = 1  # of the drawing code: a set made by another version is replaced
NUM_TRAIN = 5700  # what the demo needs: three epochs of 713 steps
SIZES = range(64, 401)  # the photographs are 427 pixels high

_META = 'meta.json'
_STALE_SECONDS = 3600


def make_digits(
    root: str | os.PathLike[str] = 'data/digits',
    num_train: int = NUM_TRAIN,
    num_val: int = 200,
    size: int = 160,
    seed: int = 0,
) -> bool:
    """Write the set into ``root``, unless it exists there already with the same settings.

    The same settings give the same files, except that another major version of OpenCV resizes and
    encodes slightly differently. Picture i does not depend on the number of pictures. The set is
    built in a temporary folder and moved to ``root`` when it is complete. A digits set with other
    settings is replaced; any other folder is left alone.

    Args:
        root: folder of the set.
        num_train: number of training pictures, made from glyphs 0 to 1399.
        num_val: number of validation pictures, made from glyphs 1400 to 1796.
        size: side of the square pictures in pixels.
        seed: seed of all random numbers.

    Returns:
        True if the set was written, False if it existed already.

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: a setting is out of range.
        FileExistsError: ``root`` holds something that is not a digits set.
    """
    if num_train < 1 or num_val < 1:
        raise ValueError(
            'num_train and num_val must be 1 or more, '
            f'got {num_train} and {num_val}; ask for at least one picture of each'
        )
    if size not in SIZES or seed < 0:
        raise ValueError(
            f'size must be {SIZES[0]} to {SIZES[-1]} and seed 0 or more, '
            f'got size {size} and seed {seed}; choose values in these ranges'
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
    material = load_material()
    _remove_stale(root)
    partial = root.with_name(f'.{root.name}.partial-{os.getpid()}')
    partial.mkdir(parents=True)
    try:
        for split, count in (('train', num_train), ('val', num_val)):
            write_split(partial, split, _scenes(material, split, count, size, seed))
        (partial / _META).write_text(json.dumps(meta, indent=2))
        return _move(partial, root, meta)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _scenes(material: Material, split: str, count: int, size: int, seed: int) -> Iterator[Scene]:
    for index in range(count):
        rng = np.random.RandomState([seed, list(GLYPHS).index(split), index])
        yield draw_scene(rng, material, GLYPHS[split], size)


def _read_meta(root: Path) -> dict | None:
    """The settings of the digits set in ``root``; None if there is no digits set."""
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
            f'has other files (and no {_META} of a digits set); name another folder or move it'
        )


def _move(partial: Path, root: Path, meta: dict) -> bool:
    """Move the finished set to ``root``; False if another process has just done so."""
    if _is_complete(root, meta):
        return False
    old = partial.with_name(f'{partial.name}-old')
    if root.exists():
        root.rename(old)
    try:
        partial.rename(root)
    except OSError:
        if not _is_complete(root, meta):  # else another process has just moved its own set here
            raise
        return False
    finally:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _remove_stale(root: Path) -> None:
    """Remove folders of killed runs. A run takes seconds, so folders an hour old are unused."""
    for partial in root.parent.glob(f'.{root.name}.partial-*'):
        if time.time() - partial.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(partial, ignore_errors=True)

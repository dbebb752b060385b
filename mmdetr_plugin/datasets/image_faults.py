"""What is wrong with the images of a COCO data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from io import BytesIO
from itertools import islice
from pathlib import Path, PureWindowsPath
from typing import Any

import mmcv
import numpy as np
from PIL import Image, UnidentifiedImageError

from .annotations import Coco
from .faults import Fault
from .image_loading import ORIENTATION, load_deep

MOST_FILES = 1_000_000
"""Names that are read to find a file that is listed under another name."""

DEEP_MODES = ('I;16', 'I;16B', 'I;16L', 'I', 'F')
"""Pillow's modes of images with more than 8 bits."""

_ADVICE = {
    'missing': 'files are looked for below {folder}; put them there, or name their folder',
    'named otherwise': 'write the names of the files, relative to {folder}',
    'unreadable': 'fetch or export them again; OpenCV reads JPEG, PNG, BMP, WebP and TIFF of integers',
    'size': 'annotations must be made for these very files; training stops at the first of them. A '
    'photograph that its EXIF data turn is loaded turned: where boxes belong to the pixels as '
    "stored, load them with LoadImageFromFile(color_type='color_ignore_orientation')",
    'turned': 'boxes must be those of the turned picture; where they belong to the pixels as stored, '
    "load the images with LoadImageFromFile(color_type='color_ignore_orientation')",
    'deep': 'loaded as float32 with 65535 as 255, so that no grey value is lost; where the values '
    'cover a small part of that range, stretch them, or adapt mean and std of data_preprocessor',
}
_WHAT = {
    'missing': 'images that are not there',
    'named otherwise': 'images that are there under another name',
    'unreadable': 'images that cannot be read',
    'size': 'images of another size than the annotations say',
    'turned': 'images that EXIF turns or mirrors',
    'deep': 'images of 16 bits',
}
_WARNINGS = ('turned', 'deep')


def image_faults(
    coco: Coco, folder: Path, threads: int | None = None, most: int | None = None
) -> list[Fault]:
    """Read images below ``folder`` to their end, as they are loaded.

    Args:
        threads: threads that read; None = one for each core.
        most: the largest number of images to look at, evenly spaced; only their headers are read then.
            None = all images, to their end.
    """
    images = coco['images']
    if most is not None and len(images) > most:
        images = [images[i] for i in np.linspace(0, len(images) - 1, most).astype(int)]
    there = _Folder(folder)
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        problems = pool.map(lambda image: _problem(there, image, most is None), images)
        cases: dict[str, list[str]] = {kind: [] for kind in _WHAT}
        for kind, case in filter(None, problems):
            cases[kind].append(case)
    return [
        Fault(_WHAT[kind], found, _ADVICE[kind].format(folder=folder), kind not in _WARNINGS)
        for kind, found in cases.items()
        if found
    ]


class _Folder:
    """The files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def names(self) -> dict[str, Path]:
        """Names in lower case -> paths relative to the folder."""
        walk = ((place, name) for place, _, names in os.walk(self.folder) for name in names)
        return {
            name.lower(): Path(place, name).relative_to(self.folder)
            for place, name in islice(walk, MOST_FILES)
        }

    def nearest(self, name: str) -> str:
        """How a file that is listed as ``name`` is called here; empty if there is none."""
        found = self.names.get(PureWindowsPath(name).name.lower())
        if found is None:  # a label tool may put a random prefix and a hyphen before the name
            found = self.names.get(PureWindowsPath(name).name.lower().partition('-')[2])
        if found is None:
            return ''
        text = found.as_posix()
        if '\\' in name:
            why = 'the list has \\ between folders, or a drive letter'
        elif text.lower() == name.lower():
            why = 'upper and lower case differ'
        else:
            why = 'the list names another folder'
        return f'{name}: {text} is there; {why}'


def _problem(there: _Folder, image: dict[str, Any], whole: bool) -> tuple[str, str] | None:
    name = image['file_name']
    path = there.folder / name
    try:
        if not path.is_file():
            near = there.nearest(name)
            return ('named otherwise', near) if near else ('missing', name)
        data = path.read_bytes() if whole else None
    except (OSError, ValueError) as error:  # a name that no file can have, or no permission
        return 'unreadable', f'{name}: {error}'
    try:
        with Image.open(path if data is None else BytesIO(data)) as picture:
            orientation = picture.getexif().get(ORIENTATION, 1)
            deep, (width, height) = picture.mode in DEEP_MODES, picture.size
            if data is not None:
                picture.load()  # unlike OpenCV, Pillow reports a file that ends too early
    except UnidentifiedImageError:
        return 'unreadable', f'{name}: no image, {path.stat().st_size} bytes'
    except Image.DecompressionBombError as error:
        return 'unreadable', f'{name}: {error}'
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's, for a damaged one
        return 'unreadable', f'{name}: {error}'
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    if data is not None:
        pixels = mmcv.imfrombytes(data)
        if pixels is None:
            return 'unreadable', f'{name}: OpenCV cannot decode it'
        height, width = pixels.shape[:2]
    stated = image['width'], image['height']
    if (width, height) != stated:
        turned = ', turned by EXIF' if orientation not in (0, 1) else ''
        case = f'{name}: {width} x {height}{turned}, stated {stated[0]} x {stated[1]}'
        return 'size', case
    if orientation not in (0, 1):
        return 'turned', f'{name}: EXIF orientation {orientation}'
    if deep:
        return 'deep', f'{name}: {_greys(data)}'
    return None


def _greys(data: bytes | None) -> str:
    pixels: Sequence | np.ndarray | None = None if data is None else load_deep(data)
    if pixels is None:
        return 'more than 8 bits'
    return f'values {np.min(pixels):.3g} to {np.max(pixels):.3g} of 255 after loading'

"""Reads COCO annotation files; the errors say what is wrong with a file."""

from __future__ import annotations

import gc
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

from .repairs import Coco, Repair, repair

_FORMAT = 'see "Object Detection" at https://cocodataset.org/#format-data'
_FIELDS = {
    'images': ('id', 'file_name', 'height', 'width'),
    'annotations': ('image_id',),
    'categories': ('id', 'name'),
}
_OBJECT_FIELDS = ('id', 'category_id', 'bbox')
LARGEST = 1e12
"""Sizes and coordinates are below it."""
_NUMBERS = {
    'size': 'a size of two numbers, width and height in pixels',
    'bbox': 'a bbox of four numbers, x, y, width, height in pixels',
    'area': 'an area of one number, square pixels',
}


_KEPT: ContextVar[dict | None] = ContextVar('files read so far', default=None)


@contextmanager
def files_kept() -> Iterator[None]:
    """While active, :func:`read_repaired` reads a file once and keeps it in memory."""
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def read_coco(path: str | os.PathLike[str], annotated: bool = True) -> Coco:
    """The content of a COCO file, repaired in memory, see :func:`read_repaired`."""
    return read_repaired(path, annotated)[0]


def read_repaired(
    path: str | os.PathLike[str], annotated: bool = True
) -> tuple[Coco, list[Repair]]:
    """Read a COCO file of boxes or panoptic segments, check the fields that mmdet needs and repair
    what can be repaired (:func:`.repairs.repair`); the file is not changed.

    It is not checked that ids refer to existing records and that boxes lie within their images; see
    :func:`.faults.read_contents`.

    Args:
        path: the JSON file.
        annotated: whether the file must have annotations; those of COCO's test images have none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON or not COCO, or a record lacks a field.
    """
    path = Path(path)
    kept = _KEPT.get()
    key = (path.resolve(), path.stat().st_mtime_ns)
    if kept is not None and key in kept and (kept[key][2] or not annotated):
        return kept[key][:2]
    coco = _read_checked(path, annotated)
    repairs = repair(coco, path)
    if kept is not None:
        kept[key] = (coco, repairs, annotated)
    return coco, repairs


def _read_checked(path: Path, annotated: bool) -> Coco:
    coco = _read_json(path)
    if not isinstance(coco, dict):
        raise ValueError(
            f'{path} must be a COCO file, one JSON object of images, annotations and categories, '
            f'got a {type(coco).__name__}; predictions are stored as a list: name the file of the '
            f'ground truth, {_FORMAT}'
        )
    if not annotated:
        coco.setdefault('annotations', [])
    for key, fields in _FIELDS.items():
        _check_records(path, coco, key, fields)
    for place, image in enumerate(coco['images']):
        _check_numbers(f'images[{place}] of {path}', 'size', [image['width'], image['height']], 2)
        if not isinstance(image['file_name'], str) or not image['file_name']:
            raise ValueError(
                f'images[{place}] of {path} must have a file_name that is text, got '
                f'{image["file_name"]!r}; name the file'
            )
    for place, (_, record) in enumerate(objects(coco)):
        _check_object(path, place, record)
    _check_categories(path, coco['categories'])
    return coco


def category_names(coco: Coco) -> tuple[str, ...]:
    """The classes of a COCO file, label 0 first.

    They are in the order of the file. mmdet's `CocoDataset` and `CocoMetric` number them in this
    order, whatever their ids and whatever order the config states.
    """
    return tuple(category['name'] for category in coco['categories'])


def read_category_names(path: str | os.PathLike[str], annotated: bool = True) -> tuple[str, ...]:
    """:func:`category_names` of a file, which is read again only after it has changed."""
    path = Path(path).resolve()
    return _read_names(path, path.stat().st_mtime_ns, annotated)


@lru_cache(maxsize=32)
def _read_names(path: Path, changed: int, annotated: bool) -> tuple[str, ...]:
    return category_names(read_coco(path, annotated))


def objects(coco: Coco) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield (image id, record) of every object; in a panoptic file, of every segment."""
    for annotation in coco['annotations']:
        for record in annotation.get('segments_info', (annotation,)) or ():
            yield annotation['image_id'], record


def _read_json(path: Path) -> Any:
    collects = gc.isenabled()
    gc.disable()  # a large file is millions of objects, none of which is garbage
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # not JSON, or not text at all
        with path.open('rb') as file:
            start = file.read(200).lstrip(b'\xef\xbb\xbf \t\r\n')
        advice = f'export it again as COCO JSON, {_FORMAT}'
        if not start:
            got = 'an empty file'
        elif start.startswith(b'<'):
            got = 'XML'
            advice = 'read Pascal VOC with mmdet.VOCDataset or mmdet.XMLDataset, or convert it'
        else:
            got = f'{start[:30].decode(errors="replace")!r}... ({error})'
        raise ValueError(f'{path} must be a COCO file in JSON, got {got}; {advice}') from None
    finally:
        if collects:
            gc.enable()


def _check_records(path: Path, coco: Coco, key: str, fields: tuple[str, ...]) -> None:
    """Check that ``coco[key]`` is a list of objects that have ``fields``."""
    if not isinstance(coco.get(key), list):
        got = f'{key} of type {type(coco[key]).__name__}' if key in coco else f'keys {list(coco)}'
        raise ValueError(
            f'{path} must be a COCO file with the lists {", ".join(_FIELDS)}, got {got[:300]}; '
            f'export it as COCO, {_FORMAT}'
        )
    for place, record in enumerate(coco[key]):
        _check_fields(path, f'{key}[{place}]', record, fields)


def _check_fields(path: Path, name: str, record: object, fields: tuple[str, ...]) -> None:
    missing = [f for f in fields if not isinstance(record, Mapping) or f not in record]
    if missing:
        raise ValueError(
            f'{name} of {path} must have {", ".join(fields)}, got {str(record)[:200]}; '
            f'add {" and ".join(missing)}'
        )


def _check_object(path: Path, place: int, record: dict[str, Any]) -> None:
    name = f'object {place}'
    _check_fields(path, name, record, _OBJECT_FIELDS)
    name = f'{name} of {path} (id {record["id"]})'
    _check_numbers(name, 'bbox', record['bbox'], 4)
    area = record.get('area')
    if not (area is None or (isinstance(area, float) and math.isnan(area))):  # else computed
        _check_numbers(name, 'area', [area], 1)


def _check_numbers(name: str, field: str, values: object, count: int) -> None:
    if not (
        isinstance(values, list)
        and len(values) == count
        and all(type(x) in (int, float) and abs(x) < LARGEST for x in values)
    ):
        raise ValueError(
            f'{name} must have {_NUMBERS[field]}, got {values}; correct it or remove the record'
        )


def _check_categories(path: Path, categories: list[dict[str, Any]]) -> None:
    unnamed = [c for c in categories if not isinstance(c['name'], str) or not c['name'].strip()]
    if unnamed:
        raise ValueError(
            f'{path} must have categories whose names are text, got {str(unnamed[0])[:200]}; name '
            'it, or remove it together with its annotations'
        )
    for field in ('name', 'id'):
        (value, count), *_ = Counter(repr(c[field]) for c in categories).most_common(1) or [('', 0)]
        if count != 1:
            got = f'{field} {value} {count} times' if count else 'no category'
            raise ValueError(
                f'{path} must have categories, each with its own id and name, got {got}; '
                'remove the category that no annotation uses, or rename it'
            )

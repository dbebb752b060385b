"""Reads COCO annotation files; the errors say what is wrong with a file."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

Coco = dict[str, Any]

_FORMAT = 'see "Object Detection" at https://cocodataset.org/#format-data'
_FIELDS = {
    'images': ('id', 'file_name', 'height', 'width'),
    'annotations': ('image_id',),
    'categories': ('id', 'name'),
}
_OBJECT_FIELDS = ('id', 'category_id', 'bbox', 'area')
_NUMBERS = {
    'size': 'a size of two numbers, width and height in pixels',
    'bbox': 'a bbox of four numbers, x, y, width, height in pixels',
    'area': 'an area of one number, square pixels',
}


def read_coco(path: str | os.PathLike[str], annotated: bool = True) -> Coco:
    """Read a COCO file of boxes or panoptic segments and check the fields that mmdet needs.

    `tools/check_dataset.py` also checks that ids refer to existing records and that boxes lie within
    their images; this function does not.

    Args:
        path: the JSON file.
        annotated: whether the file must have annotations; those of COCO's test images have none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON or not COCO, or a record lacks a field.
    """
    path = Path(path)
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
        for record in annotation.get('segments_info', (annotation,)):
            yield annotation['image_id'], record


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:  # not JSON, or not text at all
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
        advice = f'add {" and ".join(missing)}'
        if missing == ['area']:
            advice += ': width times height of the box where there is no mask'
        raise ValueError(
            f'{name} of {path} must have {", ".join(fields)}, got {str(record)[:200]}; {advice}'
        )


def _check_object(path: Path, place: int, record: dict[str, Any]) -> None:
    name = f'object {place}'
    _check_fields(path, name, record, _OBJECT_FIELDS)
    name = f'{name} of {path} (id {record["id"]})'
    _check_numbers(name, 'bbox', record['bbox'], 4)
    _check_numbers(name, 'area', [record['area']], 1)


def _check_numbers(name: str, field: str, values: object, count: int) -> None:
    if not (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(x, (int, float)) and math.isfinite(x) for x in values)
    ):
        raise ValueError(
            f'{name} must have {_NUMBERS[field]}, got {values}; correct it or remove the record'
        )


def _check_categories(path: Path, categories: list[dict[str, Any]]) -> None:
    for field in ('name', 'id'):
        (value, count), *_ = Counter(repr(c[field]) for c in categories).most_common(1) or [('', 0)]
        if count != 1:
            got = f'{field} {value} {count} times' if count else 'no category'
            raise ValueError(
                f'{path} must have categories, each with its own id and name, got {got}; '
                'remove the category that no annotation uses, or rename it'
            )

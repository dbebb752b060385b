"""Repairs of annotations in memory: ids, crowd flags and areas as annotation tools write them.

A file is never rewritten. What no rule can decide is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Coco = dict[str, Any]

LARGEST_ID = 2**53
"""pycocotools stores ids as float64, which is exact below this number."""


@dataclass(frozen=True)
class Repair:
    """One kind of repair and the number of records that it changed."""

    what: str
    count: int

    def __str__(self) -> str:
        return f'{self.count} {self.what}'


def repair(coco: Coco, path: Path) -> list[Repair]:
    """Repair the records of a COCO file in place; what was repaired is returned for the log.

    * Ids that are text are read as numbers; ids that are other text are renumbered. So is an
      annotation with id 0, which pycocotools takes for "no match".
    * ``iscrowd`` is 0 where it is missing or null.
    * ``area`` is the area of the box where it is missing or not positive.

    Raises:
        ValueError: an id is neither a number nor text, two ids become equal, or ``iscrowd`` has
            another value than 0, 1 or null.
    """
    repairs: list[Repair] = []
    panoptic = any('segments_info' in a for a in coco['annotations'][:1])
    records = coco['annotations']
    if panoptic:
        records = [segment for a in records for segment in a['segments_info']]
    repairs += _repair_keys(path, 'images', coco['images'], coco['annotations'], 'image_id')
    repairs += _repair_keys(path, 'categories', coco['categories'], records, 'category_id')
    if not panoptic:
        repairs += _repair_annotation_ids(records)
    repairs += _repair_crowds(path, records)
    repairs += _repair_areas(records)
    return [each for each in repairs if each.count]


def number_of(value: Any) -> int | None:
    """An id as a number: that of an int, of a whole float or of text; None for other values."""
    if isinstance(value, str):
        text = value.strip()
        digits = text.removeprefix('-')
        if not (digits.isascii() and digits.isdigit() and len(digits) < 17):
            return None
        value = int(text)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, float) and value.is_integer():
        value, whole = int(value), True
    return value if whole and abs(value) < LARGEST_ID else None


def _is_id(value: object) -> bool:
    return type(value) is int and abs(value) < LARGEST_ID


def _repair_keys(
    path: Path,
    kind: str,
    records: Sequence[dict[str, Any]],
    users: Iterable[dict[str, Any]],
    field: str,
) -> list[Repair]:
    """Make the ids of images or categories, and the references to them, numbers."""
    if all(_is_id(r['id']) for r in records) and all(type(u[field]) is int for u in users):
        return []
    wrong = next((r for r in records if not isinstance(r['id'], (int, float, str))), None)
    if wrong is None:
        simple = (int, float, str, type(None))
        wrong = next((u for u in users if not isinstance(u[field], simple)), None)
    if wrong is not None:
        raise ValueError(
            f'{kind} of {path} must have ids that are numbers, and so must {field}, got '
            f'{str(wrong)[:200]}; number them'
        )
    numbers = [number_of(record['id']) for record in records]
    renumbered = None in numbers
    if renumbered:
        numbers = list(range(1, len(records) + 1))
    meaning: dict[Any, int] = {}
    for record, number in zip(records, numbers, strict=True):
        assert number is not None
        meaning.setdefault(record['id'], number)
    if len(set(meaning.values())) < len(meaning):
        raise ValueError(
            f'{kind} of {path} must have ids that differ as numbers, got ids such as 1 and "1" '
            'of two records; renumber them'
        )
    repaired = 0
    for record, number in zip(records, numbers, strict=True):
        repaired += type(record['id']) is not int
        record['id'] = number
    how = 'renumbered from 1' if renumbered else 'text read as numbers'
    repairs = [Repair(f'ids of {kind} that are no numbers: {how}', repaired)]
    changed = 0
    for user in users:
        given = user[field]
        new = meaning.get(given) if isinstance(given, (int, float, str)) else None
        if new is None and not renumbered:
            new = number_of(given)
        if new is not None and (new != given or type(given) is not int):
            user[field] = new
            changed += 1
    repairs.append(Repair(f'references ({field}) to them: changed alike', changed))
    return repairs


def _repair_annotation_ids(records: Sequence[dict[str, Any]]) -> list[Repair]:
    if all(_is_id(record['id']) and record['id'] for record in records):
        return []
    numbers = [number_of(record['id']) for record in records]
    if None in numbers:
        for place, record in enumerate(records, start=1):
            record['id'] = place
        return [Repair('ids of annotations that are no numbers: all renumbered', len(records))]
    next_id = max((n for n in numbers if n is not None), default=0) + 1
    texts = zeros = 0
    for record, number in zip(records, numbers, strict=True):
        texts += type(record['id']) is not int
        record['id'] = number
        if number == 0:
            record['id'] = next_id
            next_id += 1
            zeros += 1
    return [
        Repair('ids of annotations that are text: read as numbers', texts),
        Repair('annotations with id 0, "no match" for pycocotools: renumbered', zeros),
    ]


def _repair_crowds(path: Path, records: Sequence[dict[str, Any]]) -> list[Repair]:
    missing = 0
    for place, record in enumerate(records):
        given = record.get('iscrowd')
        if given is None:
            record['iscrowd'] = 0
            missing += 1
        elif isinstance(given, str) or given not in (0, 1):
            raise ValueError(
                f'object {place} of {path} (id {record.get("id")}) must have iscrowd 0 or 1, got '
                f'{given!r}; write the number, or remove the field, which means 0'
            )
    return [Repair('objects without iscrowd: taken as 0', missing)]


def _repair_areas(records: Iterable[dict[str, Any]]) -> list[Repair]:
    computed = 0
    for record in records:
        area = record.get('area')
        if area is None or (isinstance(area, (int, float)) and not area > 0):
            *_, width, height = record['bbox']
            if width > 0 and height > 0:
                record['area'] = width * height
                computed += 1
            else:
                record['area'] = 0
    return [Repair('objects without area or with area 0: that of the box is taken', computed)]

"""Class names of a checkpoint: stated in it, in a file next to it, or COCO's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdet.evaluation import get_classes

from .plan import listing

Names = tuple[str | None, ...]
"""A name for each class row; None for a number that is not in use."""

NO_NAMES = ('', 'n/a', 'none')
"""Entries of lists of names that mean that a number is not in use."""

GENERIC = re.compile(r'LABEL_\d+')
"""The names that transformers writes where none were given."""

MOST_CLASSES = 100_000

UNUSED_IDS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
"""Numbers below 91 that COCO's instance annotations skip."""

# fmt: off
STUFF_IDS = (
    92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147, 148,
    149, 151, 154, 155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181,
    *range(184, 201),
)
# fmt: on
"""COCO's panoptic category ids of stuff, in the order of its 53 classes."""

THING_IDS = tuple(i for i in range(91) if i not in UNUSED_IDS)
COCO_ROWS = {
    80: range(80),
    91: THING_IDS,
    133: range(133),
    250: THING_IDS + STUFF_IDS,
}
"""Number of class rows -> the row of each of COCO's classes. Published models number the classes by
category id, detection models up to 90 and panoptic ones up to 249; data sets count from 0."""


def coco_names(number: int) -> Names | None:
    """COCO's names for ``number`` class rows; None if no COCO model has that number of rows."""
    if number not in COCO_ROWS:
        return None
    names: list[str | None] = [None] * number
    for row, name in zip(COCO_ROWS[number], get_classes('coco_panoptic'), strict=False):
        names[row] = name
    return tuple(names)


def stated_names(checkpoint: Mapping) -> Names | None:
    """Class names in the metainfo of a checkpoint of MMEngine or of mmdet 2."""
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping):
        return None
    dataset = meta.get('dataset_meta')
    for entries in (dataset, meta):
        if isinstance(entries, Mapping):
            entries = {str(key).lower(): value for key, value in entries.items()}
            names = entries.get('classes')
            if isinstance(names, (list, tuple)) and 0 < len(names) <= MOST_CLASSES:
                return _tidy(names)
    return None


def names_beside(path: str | Path) -> Names | None:
    """Class names in the ``config.json`` that transformers writes next to its weights."""
    file = Path(path).parent / 'config.json'
    if Path(path).suffix != '.safetensors' or not file.is_file():
        return None
    try:
        labels = json.loads(file.read_text(encoding='utf-8')).get('id2label')
        named = {int(number): str(name) for number, name in (labels or {}).items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f'{file} must be the JSON of a model, with id2label: number -> name, got {error}; fetch it '
            'again, or remove it'
        ) from None
    if not named or all(GENERIC.fullmatch(name) for name in named.values()):
        return None
    if min(named) < 0 or max(named) >= MOST_CLASSES:
        raise ValueError(
            f'id2label of {file} must number classes from 0 to {MOST_CLASSES - 1}, got '
            f'{min(named)} to {max(named)}; correct it, or remove the file'
        )
    return _tidy([named.get(i, '') for i in range(max(named) + 1)])


def match_classes(
    given: int,
    wanted: int,
    source: Sequence[str | None] | None = None,
    target: Sequence[str | None] | None = None,
) -> tuple[list[int | None], list[str]]:
    """The source's row, if any, for each of ``wanted`` classes, and how it was found.

    Args:
        given: number of classes of the source.
        source, target: names of the classes of either side, None = not known.

    Raises:
        ValueError: there are more or fewer names than classes.
    """
    if source is not None and len(source) != given:
        raise ValueError(
            f'the class names in a checkpoint must be those of its {given} class rows, got '
            f'{len(source)} ({listing(source)}); correct them (meta.dataset_meta.classes, or id2label '
            'in config.json), or remove them to re-initialise the class rows'
        )
    if target is not None and len(target) != wanted:
        raise ValueError(
            'model.num_classes must be the number of classes of the data set, got '
            f'{wanted} for {len(target)} ({listing(target)}); set it, or the classes of the data '
            "sets by dataset.metainfo=dict(classes=('...', '...'))"
        )
    by = "the checkpoint's names"
    if source is None and (target is not None or given != wanted):
        source, by = coco_names(given), f"COCO's names: {given} rows without names are taken for it"
    if target is None and given != wanted:
        target = coco_names(wanted)
    if source is not None and target is not None:
        rows = {_plain(name): row for row, name in reversed([*enumerate(source)]) if name}
        choice = [rows.get(_plain(name)) if name else None for name in target]
        new = [name for name, row in zip(target, choice, strict=True) if row is None]
        notes = [f'classes: {wanted - len(new)} of {wanted} found by name ({by})']
        note = f'classes without a row in the checkpoint, re-initialised: {listing(new)}'
        return choice, notes + [note] * bool(new)
    if given != wanted:
        text = f'classes: {given} in the checkpoint, {wanted} in the model, no names to map them by'
        return [None] * wanted, [text]
    text = 'classes: named on one side only, taken to be in the same order'
    return [*range(wanted)], [text] * ((source is None) != (target is None))


def _plain(name: str) -> str:
    return name.strip().casefold()


def _tidy(names: Sequence) -> Names:
    return tuple(None if str(n).strip().lower() in NO_NAMES else str(n) for n in names)

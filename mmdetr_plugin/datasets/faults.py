"""What is wrong with the annotations and the images of a COCO data set."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from PIL import Image, UnidentifiedImageError

from .annotations import Coco, category_names, objects

COMMON = 0.1
"""Share of boxes from which some faults are errors: a few such boxes occur in good data sets too."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault; an error if training on it would fail or learn something wrong."""

    what: str
    cases: Sequence[object]
    advice: str
    error: bool = True


@dataclass
class Contents:
    """What mmdet hands to the model, and what it would not.

    ``counts`` has the objects of each image, ``sizes`` (w, h) in pixels of each object, ``per_class``
    the objects of each class, in the order of the labels.
    """

    counts: list[int] = field(default_factory=list)
    sizes: list[tuple[float, float]] = field(default_factory=list)
    num_crowds: int = 0
    per_class: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    @property
    def num_empty(self) -> int:
        return self.counts.count(0)

    def percentile(self, percent: float) -> int:
        """The number of objects that ``percent`` of 100 images do not exceed; a number that occurs."""
        return int(np.percentile(self.counts or [0], percent, method='higher'))


def read_contents(coco: Coco, classes: Sequence[str] | None = None) -> Contents:
    """Sort the objects of a file into those to train on, crowds and faulty ones.

    Args:
        coco: what :func:`mmdetr_plugin.datasets.annotations.read_coco` returns.
        classes: categories to train on; None = all.
    """
    images = {image['id']: image for image in coco['images']}
    category = {c['id']: c['name'] for c in coco['categories']}
    labels = category_names(coco) if classes is None else classes
    wanted = set(labels)
    per_image, per_class, boxes = Counter[Any](), Counter[str](), Counter[Any]()
    contents, wrong = Contents(), _WrongObjects()
    for image_id, record in objects(coco):
        name, image = category.get(record['category_id']), images.get(image_id)
        case = f'object {record["id"]} of image {image_id}'
        if image is None:
            wrong.image.append(case)
        elif name is None:
            wrong.category.append(f'{case}: category_id {record["category_id"]}')
        elif name not in wanted or record.get('ignore') or record.get('iscrowd'):
            contents.num_crowds += name in wanted
            wrong.other += [name] if name not in wanted else []
        elif not wrong.drops(record, image, f'{case}: bbox {record["bbox"]}'):
            per_image[image_id] += 1
            per_class[name] += 1
            boxes[f'image {image_id}: {name}, bbox {record["bbox"]}'] += 1
            contents.sizes.append(tuple(record['bbox'][2:]))
    contents.counts = [per_image[image_id] for image_id in images]
    contents.per_class = {name: per_class[name] for name in labels}
    contents.faults = [
        *_duplicates(coco),
        *wrong.faults(len(contents.sizes)),
        Fault(
            'classes without an object to train on',
            sorted(wanted - set(per_class)),
            'leave them out of the classes, or add images with them',
            error=False,
        ),
        Fault(
            'boxes listed more than once',
            [case for case, count in boxes.items() if count > 1],
            'each copy wants a query of its own, so the model learns to find things twice; list '
            'an object once',
            error=False,
        ),
    ]
    contents.faults = [fault for fault in contents.faults if fault.cases]
    return contents


@dataclass
class _WrongObjects:
    """Objects that mmdet leaves out without a word, or takes as they are."""

    image: list[str] = field(default_factory=list)
    category: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    flat: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    across: list[str] = field(default_factory=list)

    def drops(self, record: dict[str, Any], image: dict[str, Any], case: str) -> bool:
        """Note what is wrong with a box; whether mmdet leaves it out."""
        x, y, w, h = record['bbox']
        inside_w = min(x + w, image['width']) - max(x, 0)
        inside_h = min(y + h, image['height']) - max(y, 0)
        if w < 1 or h < 1 or record['area'] <= 0:
            self.flat.append(case)
        elif inside_w <= 0 or inside_h <= 0:
            self.outside.append(f'{case} in {image["width"]} x {image["height"]}')
        else:
            if w - inside_w > 1 or h - inside_h > 1:
                self.across.append(f'{case} in {image["width"]} x {image["height"]}')
            return False
        return True

    def faults(self, num_good: int) -> list[Fault]:
        total = max(num_good + len(self.flat) + len(self.outside), 1)

        def boxes(what: str, cases: list[str], advice: str) -> Fault:
            return Fault(what, cases, advice, error=len(cases) > COMMON * total)

        corners = 'a bbox is x, y, width, height of the image in the file, not two corners'
        return [
            Fault('objects of an image that is not listed', self.image, 'add it or remove them'),
            Fault('objects of unknown categories', self.category, 'add the category or correct it'),
            Fault(
                'objects of categories that are no class of the config: left out',
                [f'{name}: {n}' for name, n in Counter(self.other).most_common()],
                'nothing to do if that is meant; else add them to the classes',
                error=False,
            ),
            boxes(
                'boxes below one pixel or without area: left out',
                self.flat,
                'a bbox is in pixels, not in 0..1; remove those without an area',
            ),
            boxes('boxes outside of their image: left out', self.outside, corners),
            boxes('boxes that reach out of their image by over a pixel', self.across, corners),
        ]


def _duplicates(coco: Coco) -> Iterable[Fault]:
    panoptic = any('segments_info' in annotation for annotation in coco['annotations'])
    advice = 'give them new ids, as a merge of files must do'
    yield Fault('ids of several images', _repeated(x['id'] for x in coco['images']), advice)
    if not panoptic:  # ids of segments are their colours, which images share
        ids = _repeated(x['id'] for x in coco['annotations'])
        yield Fault('ids of several annotations', ids, advice)
    files = _repeated(x['file_name'] for x in coco['images'])
    yield Fault('files listed as several images', files, 'list a file once', error=False)


def _repeated(values: Iterable[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]


def image_faults(coco: Coco, folder: Path, threads: int | None = None) -> list[Fault]:
    """Read every image below ``folder`` to its end, as mmdet loads it."""
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        problems = list(pool.map(lambda image: _image_problem(folder, image), coco['images']))
    cases: dict[str, list[str]] = {'missing': [], 'unreadable': [], 'size': []}
    for kind, case in filter(None, problems):
        cases[kind].append(case)
    found = [
        Fault(
            'images that are not there',
            cases['missing'],
            f'files are looked for below {folder}; put them there, or name their folder',
        ),
        Fault('images that cannot be read', cases['unreadable'], 'fetch or export them again'),
        Fault(
            'images of another size than the annotations say',
            cases['size'],
            'annotations must be made for these very files; a photograph that its EXIF data turn '
            'is loaded turned',
        ),
    ]
    return [fault for fault in found if fault.cases]


def _image_problem(folder: Path, image: dict[str, Any]) -> tuple[str, str] | None:
    path = folder / image['file_name']
    if not path.is_file():
        return 'missing', image['file_name']
    data = path.read_bytes()
    try:
        with Image.open(BytesIO(data)) as picture:
            picture.load()  # unlike OpenCV, Pillow tells when a file ends too early
        pixels = mmcv.imfrombytes(data)
    except UnidentifiedImageError:
        return 'unreadable', f'{image["file_name"]}: no image, {len(data)} bytes'
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's, for a damaged one
        return 'unreadable', f'{image["file_name"]}: {error}'
    if pixels is None:
        return 'unreadable', f'{image["file_name"]}: OpenCV cannot decode it'
    height, width = pixels.shape[:2]
    stated = image['width'], image['height']
    if (width, height) != stated:
        case = f'{image["file_name"]}: {width} x {height}, stated {stated[0]} x {stated[1]}'
        return 'size', case
    return None

"""What is wrong with the annotations of a COCO data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

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
    the objects of each class, in the order of the labels, ``left_out`` the number of objects that are
    not trained on by reason.
    """

    counts: list[int] = field(default_factory=list)
    sizes: list[tuple[float, float]] = field(default_factory=list)
    num_crowds: int = 0
    num_without_mask: int = 0
    per_class: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
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
    per_image, per_class = Counter[Any](), Counter[str]()
    seen: set[tuple] = set()
    twice: list[str] = []
    contents, wrong = Contents(), _WrongObjects()
    for image_id, record in objects(coco):
        name, image = category.get(record['category_id']), images.get(image_id)
        if image is None:
            wrong.image.append(_case(image_id, record))
        elif name is None:
            wrong.category.append(f'{_case(image_id, record)}: category_id {record["category_id"]}')
        elif name not in wanted or record.get('ignore') or record.get('iscrowd'):
            contents.num_crowds += name in wanted
            wrong.other += [name] if name not in wanted else []
        elif not wrong.drops(record, image):
            per_image[image_id] += 1
            per_class[name] += 1
            box = tuple(record['bbox'])
            contents.sizes.append(box[2:])
            key = (image_id, name, box)
            if key in seen:
                twice.append(f'image {image_id}: {name}, bbox {record["bbox"]}')
            seen.add(key)
            contents.num_without_mask += not record.get('segmentation')
    contents.counts = [per_image[image_id] for image_id in images]
    contents.per_class = {name: per_class[name] for name in labels}
    contents.left_out = wrong.left_out()
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
            list(dict.fromkeys(twice)),
            'each copy wants a query of its own, so the model learns to find things twice; list '
            'an object once',
            error=False,
        ),
    ]
    contents.faults = [fault for fault in contents.faults if fault.cases]
    return contents


def _case(image_id: object, record: Mapping[str, Any]) -> str:
    return f'object {record["id"]} of image {image_id}'


@dataclass
class _WrongObjects:
    """Objects that mmdet leaves out without a word, or takes as they are."""

    image: list[str] = field(default_factory=list)
    category: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    flat: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    across: list[str] = field(default_factory=list)
    relative: int = 0
    unsized: int = 0

    def drops(self, record: dict[str, Any], image: dict[str, Any]) -> bool:
        """Note what is wrong with a box; whether mmdet leaves it out."""
        x, y, w, h = record['bbox']
        inside_w = min(x + w, image['width']) - max(x, 0)
        inside_h = min(y + h, image['height']) - max(y, 0)
        if w >= 1 and h >= 1 and record['area'] > 0 and inside_w > 0 and inside_h > 0:
            if w - inside_w > 1 or h - inside_h > 1:
                self.across.append(self._described(record, image))
            return False
        if w < 1 or h < 1 or record['area'] <= 0:
            self.flat.append(self._described(record))
            self.relative += 0 < w <= 1 and 0 < h <= 1 and 0 <= x <= 1 and 0 <= y <= 1
        else:
            self.outside.append(self._described(record, image))
            self.unsized += image['width'] < 1 or image['height'] < 1
        return True

    def _described(self, record: dict[str, Any], image: dict[str, Any] | None = None) -> str:
        case = f'object {record["id"]}: bbox {record["bbox"]}'
        if 'image_id' in record:
            case = f'{_case(record["image_id"], record)}: bbox {record["bbox"]}'
        return case if image is None else f'{case} in {image["width"]} x {image["height"]}'

    def left_out(self) -> dict[str, int]:
        """Reason -> number of objects that are not trained on."""
        reasons = {
            'image_id of no listed image': len(self.image),
            'category_id of no category': len(self.category),
            'box below one pixel, or without area': len(self.flat) - self.relative,
            'box in 0..1, which must be in pixels': self.relative,
            'image whose stated size is 0 or negative': self.unsized,
            'box outside of its image': len(self.outside) - self.unsized,
        }
        return {reason: number for reason, number in reasons.items() if number}

    def faults(self, num_good: int) -> list[Fault]:
        total = max(num_good + len(self.flat) + len(self.outside), 1)

        def boxes(what: str, cases: list[str], advice: str) -> Fault:
            return Fault(what, cases, advice, error=len(cases) > COMMON * total)

        corners = 'a bbox is x, y, width, height of the image in the file, not two corners'
        outside = corners
        if self.unsized:
            outside = 'state width and height of the image in pixels, not 0 or -1'
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
            boxes('boxes outside of their image: left out', self.outside, outside),
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

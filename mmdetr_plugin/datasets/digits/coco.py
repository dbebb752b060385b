"""Writes the digits set in COCO's two formats: instances, and panoptic segments with their PNGs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from ..segment_ids import segment_colours
from .material import STUFF_CLASSES
from .scene import Scene, box_of

DIGIT_CLASSES = tuple('0123456789')
# RGB of each class, digits first. Segment ids are made from it, so a panoptic PNG shows the classes.
# fmt: off
PALETTE = (
    (220, 20, 60), (0, 120, 240), (240, 160, 0), (110, 60, 200), (0, 170, 120),
    (230, 90, 180), (150, 200, 0), (0, 200, 220), (130, 70, 20), (250, 220, 40),
    (150, 190, 230), (60, 100, 160), (140, 30, 30), (30, 90, 40), (240, 150, 110),
    (10, 60, 70),
)
# fmt: on

_JPEG_QUALITY = 92
_LICENCES = (
    'glyphs: UCI Optical Recognition of Handwritten Digits; photographs: china.jpg by '
    'danielbuechele and flower.jpg by vultilion, CC BY 2.0; all as bundled with scikit-learn'
)

Record = dict[str, Any]


def write_split(root: Path, split: str, scenes: Iterable[Scene]) -> None:
    """Write pictures, PNGs and both annotation files of one split into ``root``."""
    pictures, segments = root / split, root / 'panoptic' / split
    for folder in (pictures, segments, root / 'annotations'):
        folder.mkdir(parents=True, exist_ok=True)
    images: list[Record] = []
    instances: list[Record] = []
    panoptic: list[Record] = []
    for index, scene in enumerate(scenes):
        name, image_id = f'{index:06d}', index + 1
        height, width = scene.stuff.shape
        images.append(
            {'id': image_id, 'file_name': f'{name}.jpg', 'height': height, 'width': width}
        )
        instances += instance_records(scene, image_id, len(instances) + 1)
        ids, infos = panoptic_segments(scene)
        panoptic.append({'image_id': image_id, 'file_name': f'{name}.png', 'segments_info': infos})
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        _write_image(pictures / f'{name}.jpg', scene.image, quality)
        _write_image(segments / f'{name}.png', segment_colours(ids))
    info = {'description': f'handwritten digits on photographs, {split}', 'licence': _LICENCES}
    things, everything = _categories(panoptic=False), _categories(panoptic=True)
    for file_name, records, categories in (
        (f'{split}.json', instances, things),
        (f'panoptic_{split}.json', panoptic, everything),
    ):
        content = {'info': info, 'images': images, 'annotations': records, 'categories': categories}
        (root / 'annotations' / file_name).write_text(json.dumps(content))


def instance_records(scene: Scene, image_id: int, first_id: int) -> list[Record]:
    """COCO records of the glyphs: box ``(x, y, w, h)`` in pixels, mask as compressed RLE, its area.

    ``glyph`` is the index of the handwriting in scikit-learn's set.
    """
    records = []
    for offset, ink in enumerate(scene.inks):
        rle = mask_utils.encode(np.asfortranarray(ink.mask, dtype=np.uint8))
        records.append(
            {
                'id': first_id + offset,
                'image_id': image_id,
                'category_id': ink.digit + 1,
                'bbox': _xywh(ink.mask),
                'area': int(ink.mask.sum()),
                'segmentation': {'size': rle['size'], 'counts': rle['counts'].decode('ascii')},
                'iscrowd': 0,
                'glyph': ink.glyph,
            }
        )
    return records


def panoptic_segments(scene: Scene) -> tuple[np.ndarray, list[Record]]:
    """Segment ids (S, S) of a scene, with every pixel labelled, and COCO's ``segments_info``.

    The glyphs come first, in the order of the instances.
    """
    ids = np.zeros(scene.stuff.shape, np.int64)
    categories: dict[int, int] = {}
    for offset, ink in enumerate(scene.inks):
        segment = _segment_id(ink.digit, offset)
        categories[segment] = ink.digit + 1
        ids[ink.mask] = segment
    background = ids == 0
    for label in np.unique(scene.stuff[background]):
        index = len(DIGIT_CLASSES) + int(label)
        categories[_segment_id(index)] = index + 1
        ids[background & (scene.stuff == label)] = _segment_id(index)
    infos = []
    for segment, category_id in categories.items():
        mask = ids == segment
        infos.append(
            {
                'id': segment,
                'category_id': category_id,
                'area': int(mask.sum()),
                'bbox': _xywh(mask),
                'iscrowd': 0,
            }
        )
    return ids, infos


def _segment_id(index: int, offset: int = 0) -> int:
    """R + 256 G + 65536 B of a class's colour; ``offset`` makes each glyph's id different."""
    red, green, blue = PALETTE[index]
    return red + offset + 256 * green + 65536 * blue


def _categories(panoptic: bool) -> list[Record]:
    names = DIGIT_CLASSES + STUFF_CLASSES if panoptic else DIGIT_CLASSES
    categories = []
    for index, name in enumerate(names):
        is_digit = index < len(DIGIT_CLASSES)
        category = {
            'id': index + 1,
            'name': name,
            'supercategory': 'digit' if is_digit else 'stuff',
        }
        if panoptic:
            category.update(isthing=int(is_digit), color=list(PALETTE[index]))
        categories.append(category)
    return categories


def _xywh(mask: np.ndarray) -> list[int]:
    x1, y1, x2, y2 = box_of(mask)
    return [x1, y1, x2 - x1, y2 - y1]


def _write_image(path: Path, rgb: np.ndarray, options: Iterable[int] = ()) -> None:
    written = cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), list(options))
    if not written:  # OpenCV returns False if the disk is full or not writable
        raise OSError(f'{path} could not be written; check free space and permissions')

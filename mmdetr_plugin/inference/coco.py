"""Detections and panoptic segments as COCO's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from mmdet.evaluation import get_classes
from mmdet.structures.mask import encode_mask_results

from ..checkpoints.class_names import STUFF_IDS, THING_IDS

if TYPE_CHECKING:
    from .detections import ImageDetections


def category_ids(classes: Sequence[str]) -> tuple[int, ...]:
    """The number of each class: COCO's own where the names are COCO's, else label + 1."""
    # Things come first in it; the list 'coco' writes spaces as underscores.
    names = get_classes('coco_panoptic')
    for ids in (THING_IDS, THING_IDS + STUFF_IDS):
        if list(classes) == names[: len(ids)]:
            return ids
    return tuple(range(1, len(classes) + 1))


def box_entries(found: ImageDetections) -> list[dict[str, Any]]:
    """An entry for each detection: ``category_id``, ``category``, ``bbox`` (left, top, width, height,
    in pixels), ``area``, ``score``, and with masks a ``segmentation`` (RLE)."""
    numbers = category_ids(found.classes)
    masks = found.masks
    codes = [None] * len(found) if masks is None else encode_mask_results(masks)
    entries = []
    for box, score, label, code in zip(found.boxes, found.scores, found.labels, codes, strict=True):
        left, top, right, bottom = map(float, box)
        width, height = right - left, bottom - top
        entry: dict[str, Any] = {
            'category_id': numbers[label],
            'category': found.classes[label],
            'bbox': [left, top, width, height],
            'area': width * height,
            'score': float(score),
        }
        if code is not None:
            counts = code['counts'].decode('ascii')
            entry['segmentation'] = {'size': list(code['size']), 'counts': counts}
        entries.append(entry)
    return entries


def segment_entries(found: ImageDetections) -> tuple[np.ndarray, list[dict[str, Any]]] | None:
    """Segment ids (H, W) int64, 0 = no segment, and an entry for each segment; None without any.

    Entries have ``id``, ``category_id``, ``category`` and ``area`` (pixels), as in COCO's panoptic
    format.
    """
    codes = found.panoptic_codes
    if codes is None:
        return None
    numbers, entries, ids = category_ids(found.classes), [], np.zeros_like(codes)
    for code, label in found.panoptic_labels().items():
        inside = codes == code
        ids[inside] = code + 1  # a code may be 0, which is no segment in COCO's format
        entries.append(
            {
                'id': code + 1,
                'category_id': numbers[label],
                'category': found.classes[label],
                'area': int(inside.sum()),
            }
        )
    return ids, entries


class CocoFile:
    """Collects images with their annotations, and makes the document that COCO's tools read.

    Its ``annotations`` alone are COCO's format of results.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.categories = [
            {'id': number, 'name': name}
            for number, name in zip(category_ids(classes), classes, strict=True)
        ]

    def add_image(self, found: ImageDetections, file_name: str, **more: Any) -> int:
        """Add an image; returns its id."""
        number = len(self.images) + 1
        height, width = found.image.shape[:2]
        size = {'width': width, 'height': height}
        self.images.append({'id': number, 'file_name': file_name, **size, **more})
        return number

    def add_annotation(self, image_id: int, entry: dict[str, Any]) -> None:
        number = len(self.annotations) + 1
        self.annotations.append({'id': number, 'image_id': image_id, **entry})

    def document(self) -> dict[str, list[dict[str, Any]]]:
        return {
            'images': self.images,
            'annotations': self.annotations,
            'categories': self.categories,
        }

"""COCO's scores of boxes in detail: by size and class, precision against recall, every match."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SIZES = ('all', 'small', 'medium', 'large')
"""COCO's ranges of areas: up to 32 x 32 pixels, up to 96 x 96, and above."""


@dataclass(frozen=True)
class Found:
    """The detections of one image.

    Attributes:
        image_id: of the image in the annotation file.
        boxes: (M, 4), left, top, right, bottom in pixels of the file.
        scores, labels: (M,).
    """

    image_id: int
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Matches:
    """Who matches whom at IoU 0.5. What COCO ignores, crowds and what lies in them, is left out.

    Attributes:
        images, labels, scores, boxes: of the D detections; boxes (D, 4) are left, top, width, height.
        truths: (D,), the number of the object that a detection matches, -1 if it matches none.
        true_images, true_labels, true_boxes: of the T objects.
    """

    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    truths: np.ndarray
    true_images: np.ndarray
    true_labels: np.ndarray
    true_boxes: np.ndarray


class BoxEvaluation:
    """COCO's evaluation of what was found in a set of images.

    Args:
        truth: the annotations.
        classes: names in the order of the labels; those that the annotations lack are not scored.
        found: the detections of every image that was evaluated.

    Raises:
        ValueError: no class has a category of its name, or there is no image.
    """

    def __init__(self, truth: COCO, classes: Sequence[str], found: Sequence[Found]) -> None:
        numbers = {entry['name']: entry['id'] for entry in truth.dataset['categories']}
        self.classes = tuple(name for name in classes if name in numbers)
        if not self.classes or not found:
            raise ValueError(
                'an evaluation needs images, and categories named as the classes of the model, '
                f'{list(classes[:10])}; got {len(found)} images and categories {list(numbers)[:10]}'
            )
        self._categories = [numbers[name] for name in self.classes]
        entries = _entries(found, [numbers.get(name) for name in classes])
        with contextlib.redirect_stdout(io.StringIO()):
            detections = COCO()
            detections.dataset = {**truth.dataset, 'annotations': entries}
            detections.createIndex()
            self._run = COCOeval(truth, detections, 'bbox')
            self._run.params.imgIds = [image.image_id for image in found]
            self._run.params.catIds = self._categories
            self._run.params.useCats = 1
            self._run.evaluate()
            self._run.accumulate()

    @cached_property
    def _precision(self) -> np.ndarray:
        """(IoU thresholds, recalls, classes, sizes); NaN where there is no object."""
        precision = self._run.eval['precision'][..., -1]
        return np.where(precision < 0, np.nan, precision)

    def ap(self, iou: float | None = None, size: str = 'all', label: int | None = None) -> float:
        """Average precision.

        Args:
            iou: from 0.5 to 0.95 in steps of 0.05; None = the mean of all of them.
            size: one of ``SIZES``.
            label: of one class of :attr:`classes`; None = their mean.

        Returns:
            0..1, NaN if there is no such object.
        """
        chosen = self._precision[..., SIZES.index(size)]
        if iou is not None:
            chosen = chosen[[int(np.abs(self._run.params.iouThrs - iou).argmin())]]
        if label is not None:
            chosen = chosen[:, :, [label]]
        values = chosen[~np.isnan(chosen)]
        return float(values.mean()) if values.size else float('nan')

    def curves(self) -> tuple[np.ndarray, np.ndarray]:
        """Recalls (101,) and precisions (classes, 101) at IoU 0.5; NaN for classes without objects."""
        return self._run.params.recThrs, self._precision[0, :, :, 0].T

    def counts(self) -> np.ndarray:
        """(classes,): the number of objects that are scored."""
        return np.bincount(self.matches.true_labels, minlength=len(self.classes))

    @cached_property
    def matches(self) -> Matches:
        found: list[tuple] = []
        truths: list[tuple] = []
        place: dict[int, int] = {}  # id of an annotation -> its number among the truths
        everything = self._run.params.areaRng[0]
        for entry in self._run.evalImgs:
            if entry is None or entry['aRng'] != everything:
                continue
            image, label = entry['image_id'], self._categories.index(entry['category_id'])
            for number, ignored in zip(entry['gtIds'], entry['gtIgnore']):
                if not ignored:
                    place[number] = len(truths)
                    truths.append((image, label, self._run.cocoGt.anns[number]['bbox']))
            rows = zip(entry['dtIds'], entry['dtMatches'][0], entry['dtIgnore'][0])
            for number, matched, ignored in rows:
                if not ignored:
                    made = self._run.cocoDt.anns[number]
                    match = place[int(matched)] if matched else -1
                    found.append((image, label, made['score'], made['bbox'], match))
        columns = zip(*found) if found else ([], [], [], [], [])
        images, labels, scores, boxes, matched_truths = columns
        true_images, true_labels, true_boxes = zip(*truths) if truths else ([], [], [])
        return Matches(
            np.array(images, dtype=np.int64),
            np.array(labels, dtype=np.int64),
            np.array(scores, dtype=np.float64),
            np.array(boxes, dtype=np.float64).reshape(-1, 4),
            np.array(matched_truths, dtype=np.int64),
            np.array(true_images, dtype=np.int64),
            np.array(true_labels, dtype=np.int64),
            np.array(true_boxes, dtype=np.float64).reshape(-1, 4),
        )


def _entries(found: Sequence[Found], numbers: Sequence[int | None]) -> list[dict]:
    """COCO's entries of detections; classes without a number are left out."""
    entries: list[dict] = []
    for image in found:
        for box, score, label in zip(image.boxes, image.scores, image.labels, strict=True):
            if numbers[label] is None:
                continue
            left, top, right, bottom = map(float, box)
            width, height = right - left, bottom - top
            entries.append(
                {
                    'id': len(entries) + 1,
                    'image_id': image.image_id,
                    'category_id': numbers[label],
                    'bbox': [left, top, width, height],
                    'area': width * height,
                    'score': float(score),
                    'iscrowd': 0,
                }
            )
    return entries

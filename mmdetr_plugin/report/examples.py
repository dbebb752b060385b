"""The images in which a model does best and worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mmcv
import numpy as np

from ..evaluation.boxes import BoxEvaluation
from ..inference.validation import Validation
from ..visualization.grid import Picture, draw_picture

SCORE = 0.4
"""Detections below it are neither counted nor drawn."""
SIDE = 640
"""Pixels of the longer side of a drawn image."""


@dataclass(frozen=True)
class Example:
    """How an image was done.

    Attributes:
        image_id: of the image in the annotations.
        hits, false, missed: number of detections that match an object, of those that do not, and of
            objects that are not matched, at IoU 0.5.
        score: 2 hits / (2 hits + false + missed), 1 if there is neither object nor detection.
        confidence: mean score of the hits.
    """

    image_id: int
    hits: int
    false: int
    missed: int
    confidence: float

    @property
    def score(self) -> float:
        total = 2 * self.hits + self.false + self.missed
        return 2 * self.hits / total if total else 1.0

    def __str__(self) -> str:
        return f'{self.hits} right, {self.false} false, {self.missed} missed'


def ranked(evaluation: BoxEvaluation, images: Sequence[int]) -> list[Example]:
    """The images from the best one to the worst."""
    matches = evaluation.matches
    seen = matches.scores >= SCORE
    examples = []
    for image in images:
        here = seen & (matches.images == image)
        hits = here & (matches.truths >= 0)
        objects = int((matches.true_images == image).sum())
        number = int(hits.sum())
        confidence = float(matches.scores[hits].mean()) if number else 0.0
        false = int(here.sum()) - number
        examples.append(Example(image, number, false, objects - number, confidence))
    return sorted(examples, key=lambda e: (-e.score, -e.hits, -e.confidence, e.image_id))


def drawn(validation: Validation, example: Example) -> np.ndarray:
    """The image with its true boxes, white, and those that were found: (H, W, 3) uint8, RGB."""
    found = next(f for f in validation.layers[-1] if f.image_id == example.image_id)
    image = mmcv.imread(validation.paths[example.image_id], channel_order='rgb')
    scale = SIDE / max(image.shape[:2])
    entries = [
        entry
        for entry in validation.truth.imgToAnns[example.image_id]
        if not entry.get('iscrowd') and not entry.get('ignore')
    ]
    boxes = np.array([entry['bbox'] for entry in entries], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    picture = Picture(
        image=mmcv.imresize(image, (round(image.shape[1] * scale), round(image.shape[0] * scale))),
        boxes=found.boxes * scale,
        labels=found.labels,
        scores=found.scores,
        true_boxes=boxes * scale,
        true_labels=np.zeros(len(boxes), dtype=np.int64),
    )
    return draw_picture(picture, validation.classes, score_thr=SCORE)

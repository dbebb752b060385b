"""Which kinds of errors cost how much AP: TIDE (Bolya et al., ECCV 2020, arXiv:2008.08115)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pycocotools import mask as mask_utils

from .boxes import Matches

FOREGROUND, BACKGROUND = 0.5, 0.1
"""IoUs between a hit and a near miss, and between a near miss and nothing (section 2.2)."""
FALSE = ('classification', 'localization', 'both', 'duplicate', 'background')
KINDS = (*FALSE, 'missed')
"""The kinds of section 2.2. Of a false detection, with the largest IoU to objects of the image:

* localization: 0.1 to 0.5 with an object of its class;
* classification: at least 0.5 with an object of another class;
* duplicate: at least 0.5 with an object of its class, which a better detection has taken;
* background: at most 0.1 with all objects;
* both: the rest, 0.1 to 0.5 with an object of another class.

Missed are the objects that neither a detection matches nor an error of the first two kinds explains.
"""
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ErrorBreakdown:
    """What errors cost.

    Attributes:
        ap50: AP at IoU 0.5.
        costs: by kind, by how much ``ap50`` rises if the errors of this kind alone are corrected.
        counts: by kind, the number of errors, of any score.
    """

    ap50: float
    costs: dict[str, float]
    counts: dict[str, int]


def error_breakdown(matches: Matches) -> ErrorBreakdown:
    """Sort all errors by kind and correct one kind at a time (section 2.3).

    A wrong class and a bad box are corrected to a hit, unless the object has been found or a better
    detection is corrected to it; such detections and all other false ones are removed. Missed objects
    no longer count.
    """
    kinds, targets = _kinds(matches)
    taken = np.zeros(len(matches.true_labels), dtype=bool)
    taken[matches.truths[matches.truths >= 0]] = True
    explained = taken.copy()
    explained[targets[targets >= 0]] = True
    objects = matches.true_labels
    ap50 = mean_precision(matches, objects)
    costs, counts = {}, {}
    for number, kind in enumerate(FALSE):
        wrong = np.flatnonzero(kinds == number)
        fixed = _corrected(matches, wrong, targets, taken)
        costs[kind] = mean_precision(fixed, objects) - ap50
        counts[kind] = len(wrong)
    costs['missed'] = mean_precision(matches, objects[explained]) - ap50
    counts['missed'] = int((~explained).sum())
    return ErrorBreakdown(ap50, costs, counts)


def mean_precision(matches: Matches, objects: np.ndarray) -> float:
    """COCO's AP of hits and false detections: the mean over the classes that have objects.

    Args:
        objects: (T,), the class of each object that is to be found.
    """
    values = []
    for label in np.unique(objects):
        chosen = matches.labels == label
        order = np.argsort(-matches.scores[chosen], kind='mergesort')
        hits = (matches.truths[chosen][order] >= 0).cumsum()
        recall = hits / (objects == label).sum()
        precision = hits / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, RECALLS, side='left')
        values.append(np.append(precision, 0.0)[places].mean())
    return float(np.mean(values)) if values else float('nan')


def _kinds(matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """(D,) the number of the kind in ``FALSE``, -1 for hits; (D,) the object that an error of the first
    two kinds could have been, else -1."""
    kinds = np.full(len(matches.labels), -1)
    targets = np.full(len(matches.labels), -1)
    for image in np.unique(matches.images):
        rows = np.flatnonzero((matches.images == image) & (matches.truths < 0))
        columns = np.flatnonzero(matches.true_images == image)
        if not len(columns):
            kinds[rows] = FALSE.index('background')
        if not len(rows) or not len(columns):
            continue
        ious = mask_utils.iou(matches.boxes[rows], matches.true_boxes[columns], [0] * len(columns))
        same = matches.labels[rows][:, None] == matches.true_labels[columns]
        own, other = np.where(same, ious, 0.0), np.where(same, 0.0, ious)
        best_own, best_other = own.max(1), other.max(1)
        near = (best_own >= BACKGROUND) & (best_own < FOREGROUND)
        tests = {
            'localization': near,
            'classification': best_other >= FOREGROUND,
            'duplicate': best_own >= FOREGROUND,
            'background': ious.max(1) <= BACKGROUND,
        }
        chosen = np.select(
            [*tests.values()], [FALSE.index(kind) for kind in tests], FALSE.index('both')
        )
        kinds[rows] = chosen
        for kind, overlaps in (('localization', own), ('classification', other)):
            here = chosen == FALSE.index(kind)
            targets[rows[here]] = columns[overlaps.argmax(1)[here]]
    return kinds, targets


def _corrected(
    matches: Matches, wrong: np.ndarray, targets: np.ndarray, taken: np.ndarray
) -> Matches:
    """The matches after the errors ``wrong``, (n,) numbers of detections, are corrected."""
    labels, truths = matches.labels.copy(), matches.truths.copy()
    kept = np.ones(len(labels), dtype=bool)
    kept[wrong] = False
    found = taken.copy()
    for row in wrong[np.argsort(-matches.scores[wrong], kind='mergesort')]:
        target = targets[row]
        if target >= 0 and not found[target]:
            found[target] = kept[row] = True
            labels[row], truths[row] = matches.true_labels[target], target
    return replace(
        matches,
        images=matches.images[kept],
        labels=labels[kept],
        scores=matches.scores[kept],
        boxes=matches.boxes[kept],
        truths=truths[kept],
    )

#!/usr/bin/env python3
"""COCO's box AP of random detections: pycocotools as mmdet calls it, and faster-coco-eval.

    python tools/benchmarks/evaluation.py

faster-coco-eval is the extra `eval` (pip install '.[eval]'). All entries of the precision and
recall tables are compared, not only the summary.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch

from mmdetr_plugin.testing.benchmark import Contest, Result, parse, parser

MAX_DETECTIONS = [100, 300, 1000]
"""The numbers that mmdet's CocoMetric sets."""


def made_up(images: int, objects: int, detections: int, classes: int) -> tuple[dict, list[dict]]:
    """The content of an annotation file, and detections near its objects, half with their label."""
    noise = np.random.default_rng(0)
    shape = (images, objects)
    corners, extents = noise.uniform(0, 400, (*shape, 2)), noise.uniform(8, 200, (*shape, 2))
    boxes, labels = np.concatenate((corners, extents), -1), noise.integers(1, classes + 1, shape)
    pick = noise.integers(0, objects, (images, detections))
    rows = np.arange(images)[:, None]
    found = boxes[rows, pick] + noise.normal(0, 12, (images, detections, 4))
    named = np.where(
        noise.random(pick.shape) < 0.5, labels[rows, pick], labels[rows, pick[:, ::-1]]
    )
    scores = noise.random(pick.shape)
    truth = {
        'images': [{'id': i, 'width': 640, 'height': 640} for i in range(images)],
        'categories': [{'id': c, 'name': str(c)} for c in range(1, classes + 1)],
        'annotations': [
            {
                'id': 1 + i * objects + j,
                'image_id': i,
                'category_id': int(labels[i, j]),
                'bbox': boxes[i, j].tolist(),
                'area': float(boxes[i, j, 2] * boxes[i, j, 3]),
                'iscrowd': 0,
            }
            for i, j in np.ndindex(*shape)
        ],
    }
    predicted = [
        {
            'image_id': i,
            'category_id': int(named[i, j]),
            'bbox': found[i, j].clip(1).tolist(),
            'score': float(scores[i, j]),
        }
        for i, j in np.ndindex(*pick.shape)
    ]
    return truth, predicted


def evaluate(coco: ModuleType, evaluator: type, truth: dict, predicted: list[dict]) -> Result:
    """Precision, recall and the summary, from annotations and detections in memory."""
    with contextlib.redirect_stdout(io.StringIO()):
        annotations: Any = coco.COCO()
        annotations.dataset = truth
        annotations.createIndex()
        result = evaluator(annotations, annotations.loadRes([dict(p) for p in predicted]), 'bbox')
        result.params.maxDets = MAX_DETECTIONS
        result.evaluate()
        result.accumulate()
        result.summarize()
    tables = {name: result.eval[name] for name in ('precision', 'recall')}
    tables['stats'] = np.asarray(result.stats)[:12]
    return {name: torch.from_numpy(np.asarray(value)) for name, value in tables.items()}


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, devices=('cpu',))
    options.add_argument('--images', type=int, default=500)
    options.add_argument('--objects', type=int, default=10, help='of every image')
    options.add_argument('--detections', type=int, default=100, help='of every image')
    options.add_argument('--classes', type=int, default=80)
    args = parse(options, argv)
    if importlib.util.find_spec('faster_coco_eval') is None:
        options.error(
            "the comparison needs faster-coco-eval, which is not installed; pip install '.[eval]'"
        )
    import faster_coco_eval
    import pycocotools.coco
    import pycocotools.cocoeval

    data = made_up(args.images, args.objects, args.detections, args.classes)
    runs = {
        'pycocotools': partial(evaluate, pycocotools.coco, pycocotools.cocoeval.COCOeval, *data),
        'faster-coco-eval': partial(
            evaluate, faster_coco_eval, faster_coco_eval.COCOeval_faster, *data
        ),
    }
    contest = Contest(args)
    contest.compare(f'{args.images} images, {args.detections} boxes each', runs, memory=False)
    contest.finish()
    return 0


if __name__ == '__main__':
    sys.exit(main())

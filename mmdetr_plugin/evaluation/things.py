"""Scores the boxes and instance masks of a model that also predicts stuff."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..registry import METRICS
from .coco import CheckedCocoMetric


@METRICS.register_module()
class ThingMetric(CheckedCocoMetric):
    """mmdet's CocoMetric for an annotation file that lacks some of the model's classes.

    Panoptic models are scored on COCO's instances, which are things only. Predictions of other
    classes are left out, as pycocotools does it.
    """

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        if self._coco_api is None:
            raise ValueError(
                'ThingMetric needs ann_file, got none; name the instance annotations, whose classes '
                'decide what is scored'
            )
        known = {category['name'] for category in self._coco_api.dataset['categories']}
        index, number = [], 0  # index of each class among the scored ones; -1: not scored
        for name in self.dataset_meta['classes']:
            index.append(number if name in known else -1)
            number += name in known
        scored = []
        for sample in data_samples:
            found = sample['pred_instances']
            labels = torch.tensor(index, device=found['labels'].device)[found['labels']]
            kept = labels >= 0
            things = {key: value[kept] for key, value in found.items()}
            scored.append({**sample, 'pred_instances': {**things, 'labels': labels[kept]}})
        super().process(data_batch, scored)

"""Boxes and instance masks of a model that also finds stuff."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.evaluation import CocoMetric

from ..registry import METRICS


@METRICS.register_module()
class ThingMetric(CocoMetric):
    """mmdet's CocoMetric on an annotation file that lacks some of the model's classes.

    Panoptic models are scored on COCO's instances, which are things alone. What they find of other
    classes is left out, as pycocotools does.
    """

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        if self._coco_api is None:
            raise ValueError(
                'ThingMetric needs ann_file, whose classes decide what is scored, got none; name '
                'the annotations of the instances'
            )
        known = {category['name'] for category in self._coco_api.dataset['categories']}
        index, number = [], 0  # among the classes that are scored; -1 for others
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

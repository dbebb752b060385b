"""mmdet's COCO metric on annotations that are repaired in memory."""

from __future__ import annotations

from typing import Any

from mmdet.evaluation import CocoMetric
from mmengine.fileio import get_local_path

from ..datasets.coco import RepairedCoco
from ..registry import METRICS


@METRICS.register_module()
class CheckedCocoMetric(CocoMetric):
    """mmdet's `CocoMetric` for files as annotation tools write them, see
    :class:`~mmdetr_plugin.datasets.coco.CheckedCocoDataset`.

    Args:
        ann_file, sort_categories, kwargs: of `CocoMetric`.
    """

    def __init__(
        self, ann_file: str | None = None, sort_categories: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(ann_file=None, **kwargs)
        if ann_file is not None:
            with get_local_path(ann_file, backend_args=self.backend_args) as path:
                self._coco_api = RepairedCoco(path)
            if sort_categories:
                self._coco_api.dataset['categories'].sort(key=lambda category: category['id'])
                self._coco_api.cats = dict(sorted(self._coco_api.cats.items()))

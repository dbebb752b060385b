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
        ann_file: file of the ground truth; by default the boxes of the samples are the ground truth.
        sort_categories, kwargs: of `CocoMetric`.

    Raises:
        ValueError: ``ann_file`` is None, which `tools/train.py` and `tools/test.py` replace.
    """

    def __init__(
        self, ann_file: str | None = '', sort_categories: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(ann_file=None, **kwargs)
        if ann_file is None:
            raise ValueError(
                'ann_file of the evaluator must be a file, got None, which the tools of mmdetr_plugin '
                'replace by the file of the data set; for other tools state '
                'val_evaluator.ann_file=FILE and test_evaluator.ann_file=FILE, or take the config that '
                'training left in its work dir'
            )
        if ann_file:
            with get_local_path(ann_file, backend_args=self.backend_args) as path:
                self._coco_api = RepairedCoco(path)
            if sort_categories:
                self._coco_api.dataset['categories'].sort(key=lambda category: category['id'])
                self._coco_api.cats = dict(sorted(self._coco_api.cats.items()))

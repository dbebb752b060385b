"""Panoptic quality (Kirillov et al., CVPR 2019), computed by torchmetrics, without panopticapi."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmengine.evaluator import BaseMetric
from mmengine.fileio import join_path, load
from mmengine.logging import MMLogger
from terminaltables import AsciiTable
from torch import Tensor

from ..datasets.segment_ids import read_segment_ids
from ..registry import METRICS

STATES = ('iou_sum', 'true_positives', 'false_positives', 'false_negatives')
GROUPS = {'': 'All', '_th': 'Things', '_st': 'Stuff'}


@METRICS.register_module()
class PanopticMetric(BaseMetric):
    """PQ, SQ and RQ in percent, of all classes, of things (``_th``) and of stuff (``_st``).

    Classes that are neither in the ground truth nor predicted do not count. The results equal those
    of the official implementation, including its rules for crowds and void
    (:func:`without_crowd`).

    Args:
        ann_file: panoptic annotations in COCO's format.
        seg_prefix: folder of their PNGs.
        classwise: also return the three numbers of each class, as ``PQ/name``.
        backend_args: arguments of the storage backend that reads both.
        collect_device, prefix: as in mmengine's BaseMetric.

    Raises:
        ImportError: torchmetrics is not installed.
    """

    default_prefix = 'coco_panoptic'

    def __init__(
        self,
        ann_file: str,
        seg_prefix: str,
        classwise: bool = False,
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        panoptic_quality()  # fails here, not after an epoch, if torchmetrics is missing
        content = load(ann_file, backend_args=backend_args)
        self.annotations = {a['image_id']: a for a in content['annotations']}
        self.categories = content['categories']
        self.seg_prefix, self.classwise, self.backend_args = seg_prefix, classwise, backend_args

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Match the segments of one batch and count them.

        Raises:
            ValueError: a sample has no panoptic prediction, or its size is not that of the PNG.
        """
        labels = {c['id']: i for i, c in enumerate(self._scored())}
        for sample in data_samples:
            if 'pred_panoptic_seg' not in sample:
                raise ValueError(
                    'PanopticMetric needs pred_panoptic_seg, got a prediction without it; give '
                    'the model a mask_head and a panoptic post-processing (PanopticArgmax)'
                )
            predicted = sample['pred_panoptic_seg']['sem_seg'][0].long()
            annotation = self.annotations[sample['img_id']]
            path = join_path(self.seg_prefix, annotation['file_name'])
            ids = torch.from_numpy(read_segment_ids(path, self.backend_args)).to(predicted.device)
            if ids.shape != predicted.shape:
                raise ValueError(
                    f'segments must have the size of {PurePosixPath(path).name}, '
                    f'{tuple(ids.shape)}, got {tuple(predicted.shape)}; predict with rescale=True'
                )
            infos = annotation['segments_info']
            infos = [{**info, 'label': labels.get(info['category_id'])} for info in infos]
            pair = without_crowd(predicted, ids, infos, len(labels))
            quality = panoptic_quality(len(labels)).to(predicted.device)
            quality.update(*(value[None] for value in pair))
            self.results.append({name: getattr(quality, name).cpu() for name in STATES})

    def compute_metrics(self, results: list[dict[str, Tensor]]) -> dict[str, float]:
        categories = self._scored()
        quality = panoptic_quality(len(categories))
        # No image: torchmetrics needs one call of update before the results are merged.
        quality.update(*torch.zeros(2, 0, 1, 2, dtype=torch.long))
        for result in results:
            quality.merge_state(result)
        scores = 100 * quality.compute()[:-1].numpy()  # (C, 3) PQ, SQ, RQ
        occurs = sum(getattr(quality, name) for name in STATES[1:])[:-1].numpy() > 0
        things = np.array([bool(c['isthing']) for c in categories])
        metrics = {}
        for suffix, chosen in zip(GROUPS, (occurs, occurs & things, occurs & ~things)):
            means = scores[chosen].mean(0) if chosen.any() else np.full(3, np.nan)
            metrics.update({f'{n}{suffix}': float(m) for n, m in zip(('PQ', 'SQ', 'RQ'), means)})
        if self.classwise:
            for category, row in zip(categories, scores):
                for name, value in zip(('PQ', 'SQ', 'RQ'), row):
                    metrics[f'{name}/{category["name"]}'] = float(value)
        MMLogger.get_current_instance().info('\n' + table(metrics))
        return metrics

    def _scored(self) -> list[dict]:
        """The categories among the data set's classes, in the order of their labels."""
        classes = set(self.dataset_meta['classes'])
        return [c for c in self.categories if c['name'] in classes]


def panoptic_quality(num_classes: int = 1) -> Any:
    """torchmetrics' metric for ``num_classes`` classes and one extra class that is not reported.

    All classes are passed as things: torchmetrics would merge the segments of a stuff class, which
    the official metric does not do.

    Raises:
        ImportError: torchmetrics is not installed.
    """
    try:
        from torchmetrics.detection import PanopticQuality
    except ImportError as error:
        raise ImportError(
            'PanopticMetric needs torchmetrics, which is not installed; pip install ".[demo]"'
        ) from error
    return PanopticQuality(
        things=set(range(num_classes + 1)),
        stuffs=set(),
        return_sq_and_rq=True,
        return_per_class=True,
        sync_on_compute=False,  # mmengine collects the results
    )


def without_crowd(
    predicted: Tensor, ids: Tensor, segments: Sequence[Mapping[str, Any]], num_classes: int
) -> tuple[Tensor, Tensor]:
    """Rewrite both maps so that torchmetrics follows the official rules for crowds and void.

    The official rules (Kirillov et al., section 4, and panopticapi):

    * A crowd is neither matched nor missed, but its pixels belong to the union of a prediction that
      overlaps it.
    * An unmatched prediction does not count if more than half of it is void or a crowd of its class.
    * Pixels without a prediction belong to no segment.

    torchmetrics has no crowds, and treats objects where nothing was predicted as void. Here crowds,
    predictions that do not count, and pixels without a prediction become segments of the extra class
    ``num_classes``. Void in the ground truth gets the label ``num_classes`` + 1, which torchmetrics
    treats as void.

    Args:
        predicted: (H, W), label + INSTANCE_OFFSET * instance; labels >= num_classes mean no segment.
        ids: (H, W) segment ids of the ground truth; 0 means void.
        segments: a record for each id, with ``id``, ``label`` (None: not scored) and ``iscrowd``.
        num_classes: number of classes that are scored.

    Returns:
        Prediction and ground truth as (label, instance) pairs, (H, W, 2) each.
    """
    other, void = num_classes, num_classes + 1
    numbers, places = predicted.unique(return_inverse=True)
    known = torch.tensor([0, *(s['id'] for s in segments)], device=ids.device)
    # Row 0 is void. The last row is for ids without a record: they are neither segment nor void.
    match = ids.flatten()[:, None] == known
    rows = torch.where(match.any(1), match.int().argmax(1), len(known)).view_as(ids)

    label = (numbers % INSTANCE_OFFSET).clamp(max=other)
    crowd = torch.tensor([False, *(bool(s.get('iscrowd', 0)) for s in segments), False])
    scored = [other if s['label'] is None else s['label'] for s in segments]
    truth = torch.tensor([void, *scored, other])
    crowd, truth = crowd.to(ids.device), truth.to(ids.device)

    count = (places * len(truth) + rows).flatten().bincount(minlength=len(numbers) * len(truth))
    count = count.view(len(numbers), len(truth)).double()
    area = count.sum(1, keepdim=True)
    same = label[:, None] == truth
    union = area + count.sum(0) - count - count[:, :1]
    matched = (same & ~crowd & (count / union > 0.5)).any(1)
    ignored = count[:, 0] + (count * (same & crowd)).sum(1)
    dropped = ~matched & (ignored > 0.5 * area[:, 0])

    label = torch.where(dropped, other, label)
    truth = torch.where(crowd, other, truth)
    return (
        torch.stack((label[places], places), -1),
        torch.stack((truth[rows], rows), -1),
    )


def table(metrics: Mapping[str, float]) -> str:
    """A text table with a row for each group and, if ``metrics`` has them, for each class."""
    names = ('PQ', 'SQ', 'RQ')
    rows = [[title, *(metrics[n + suffix] for n in names)] for suffix, title in GROUPS.items()]
    for key in metrics:
        if key.startswith('PQ/'):
            title = key.removeprefix('PQ/')
            rows.append([title, *(metrics[f'{n}/{title}'] for n in names)])
    cells = [[row[0], *(f'{value:.2f}' for value in row[1:])] for row in rows]
    return AsciiTable([['', *names], *cells]).table

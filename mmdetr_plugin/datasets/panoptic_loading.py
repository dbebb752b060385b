"""Loads ground truth in COCO's panoptic format, without panopticapi."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from ..registry import TRANSFORMS
from .digits.scene import box_of
from .segment_ids import read_segment_ids


@TRANSFORMS.register_module()
class LoadPanopticSegments(BaseTransform):
    """Turns every segment of mmdet's CocoPanopticDataset, thing or stuff, into an object.

    Reads ``seg_map_path`` and ``segments_info``. Adds ``gt_bboxes`` (xyxy, tight, right and lower
    side exclusive), ``gt_bboxes_labels``, ``gt_ignore_flags`` and ``gt_masks``. Segments without any
    pixel are left out.

    Args:
        num_things: labels below this number are things. If a segment has such a label, but the data
            set does not mark it as a thing, it is a crowd and is ignored.
        with_mask: also load the masks; boxes alone are faster to augment.
        backend_args: arguments of the storage backend that reads the PNGs.

    Raises:
        ValueError: the data set gives no ``seg_map_path``.
    """

    def __init__(
        self, num_things: int, with_mask: bool = True, backend_args: dict | None = None
    ) -> None:
        self.num_things, self.with_mask = num_things, with_mask
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        if results.get('seg_map_path') is None:
            raise ValueError(
                'LoadPanopticSegments needs data_prefix=dict(seg=...) in the data set, got none; '
                'name the folder of the PNGs'
            )
        ids = read_segment_ids(results['seg_map_path'], self.backend_args)
        masks, labels, ignored = [], [], []
        for segment in results['segments_info']:
            mask = ids == segment['id']
            if mask.any():
                masks.append(mask)
                labels.append(segment['category'])
                crowd = segment['category'] < self.num_things and not segment['is_thing']
                ignored.append(crowd)
        boxes = np.array([box_of(mask) for mask in masks], np.float32).reshape(-1, 4)
        results['gt_bboxes'] = HorizontalBoxes(boxes)
        results['gt_bboxes_labels'] = np.array(labels, np.int64)
        results['gt_ignore_flags'] = np.array(ignored, bool)
        if self.with_mask:
            stack = np.array(masks, np.uint8).reshape(-1, *ids.shape)
            results['gt_masks'] = BitmapMasks(stack, *ids.shape)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(num_things={self.num_things}, with_mask={self.with_mask}, '
            f'backend_args={self.backend_args})'
        )

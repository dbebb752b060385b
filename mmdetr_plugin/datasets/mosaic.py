"""Pictures of several pictures: mosaics and mixtures (DEIM's dense one-to-one augmentation)."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures import SampleList
from mmdet.structures.bbox import autocast_box_type
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..registry import MODELS, TRANSFORMS

OBJECTS = ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags')
MIXED = 'mixed'
"""The entry of a sample's metainfo that says that its picture is a mixture."""


@TRANSFORMS.register_module()
class QuadMosaic(BaseTransform):
    """Four pictures in two rows, each with its upper left corner in that of its quarter (DEIM).

    The other three are drawn from the latest pictures of this worker, which are kept small. After a
    restart these are others, so a resumed run sees other mosaics.

    Args:
        side: pictures are resized to this length of their shorter side, in pixels.
        kept: number of pictures to draw from.
        fill: value of the pixels between the pictures.
    """

    def __init__(self, side: int = 320, kept: int = 50, fill: int = 0) -> None:
        if side < 1 or kept < 1:
            raise ValueError(
                f'side and kept must be positive, got side={side} and kept={kept}; change them'
            )
        self.side, self.kept, self.fill = side, kept, fill
        self.latest: list[dict[str, Any]] = []

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replaces image and boxes; objects need ``gt_bboxes`` and ``gt_bboxes_labels``."""
        if len(self.latest) == self.kept:
            self.latest.pop(random.randrange(self.kept))
        self.latest.append(self._small(results))
        parts = [self.latest[-1], *random.choices(self.latest, k=3)]
        height, width = (max(part['img'].shape[i] for part in parts) for i in (0, 1))
        canvas = np.full_like(results['img'], self.fill, shape=(2 * height, 2 * width, 3))
        boxes = []
        for i, part in enumerate(parts):
            top, left = i // 2 * height, i % 2 * width
            rows, columns = part['img'].shape[:2]
            canvas[top : top + rows, left : left + columns] = part['img']
            moved = copy.deepcopy(part['gt_bboxes'])
            moved.translate_((left, top))
            boxes.append(moved)
        results['img'], results['img_shape'] = canvas, canvas.shape[:2]
        results['gt_bboxes'] = type(boxes[0]).cat(boxes, 0)
        for name in OBJECTS[1:]:
            if name in results:
                results[name] = np.concatenate([part[name] for part in parts])
        return results

    def _small(self, results: dict[str, Any]) -> dict[str, Any]:
        """The picture with its shorter side as long as ``side``, and its objects."""
        part = {name: copy.deepcopy(results[name]) for name in OBJECTS if name in results}
        height, width = results['img'].shape[:2]
        factor = self.side / min(height, width)
        size = (max(round(width * factor), 1), max(round(height * factor), 1))
        part['img'] = mmcv.imresize(results['img'], size)
        part['gt_bboxes'].rescale_((size[0] / width, size[1] / height))
        return part


@MODELS.register_module()
class BatchMixup(nn.Module):
    """Mixes each picture of a batch with the one before it; the mixture has the objects of both (DEIM).

    An entry of ``batch_augments`` of mmdet's ``DetDataPreprocessor``, for pictures of one size. The
    share of a picture has no influence on the losses of its objects.

    Args:
        prob: share of the batches that are mixed.
        ratio: smallest and largest share of a picture in its mixture.
    """

    def __init__(self, prob: float = 0.5, ratio: Sequence[float] = (0.45, 0.55)) -> None:
        super().__init__()
        low, high = ratio
        if not 0 <= prob <= 1 or not 0 <= low <= high <= 1:
            raise ValueError(
                'prob and both numbers of ratio must be in 0..1 and ratio must rise, got '
                f'prob={prob} and ratio={tuple(ratio)}; change them'
            )
        self.prob, self.low, self.high = prob, low, high

    def forward(self, inputs: Tensor, data_samples: SampleList) -> tuple[Tensor, SampleList]:
        """(B, 3, H, W) -> the same shape."""
        if len(inputs) < 2 or random.random() >= self.prob:
            return inputs, data_samples
        share = random.uniform(self.low, self.high)
        objects = [sample.gt_instances for sample in data_samples]
        for sample, own, other in zip(data_samples, objects, [objects[-1], *objects[:-1]]):
            sample.gt_instances = InstanceData.cat([own, other])
            sample.set_metainfo({MIXED: True})
        return torch.lerp(inputs.roll(1, 0), inputs, share), data_samples

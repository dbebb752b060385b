"""Objects of a batch that are blended into its pictures (DEIMv2's dense one-to-one augmentation)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..registry import MODELS
from .mosaic import MIXED

Box = tuple[int, int, int, int]


@MODELS.register_module()
class BatchCopyBlend(nn.Module):
    """Blends objects of the batch into each of its pictures, at random places (DEIMv2, section 3.4).

    An entry of ``batch_augments`` of mmdet's ``DetDataPreprocessor``, for pictures of one size. Batches
    that :class:`~mmdetr_plugin.datasets.BatchMixup` has mixed stay as they are.

    Args:
        prob: share of the other batches that get objects.
        number: of objects that each picture gets.
        min_area: objects with a smaller box, in square pixels, are not blended.
        ratio: smallest and largest share of a picture where an object is blended into it.
        margin: smallest and largest width of what is blended around a box, in its sides.
    """

    def __init__(
        self,
        prob: float = 0.5,
        number: int = 3,
        min_area: float = 100.0,
        ratio: Sequence[float] = (0.45, 0.55),
        margin: Sequence[float] = (0.1, 0.25),
    ) -> None:
        super().__init__()
        if not 0 <= prob <= 1 or number < 1 or not 0 <= ratio[0] <= ratio[1] <= 1:
            raise ValueError(
                'prob and both numbers of ratio must be in 0..1, ratio must rise and number be '
                f'positive, got prob={prob}, ratio={tuple(ratio)} and number={number}; change them'
            )
        self.prob, self.number, self.min_area = prob, number, min_area
        self.ratio, self.margin = tuple(ratio), tuple(margin)

    def forward(self, inputs: Tensor, data_samples: SampleList) -> tuple[Tensor, SampleList]:
        """(B, 3, H, W) -> the same shape.

        Raises:
            ValueError: objects have masks.
        """
        if any(sample.get(MIXED) for sample in data_samples) or random.random() >= self.prob:
            return inputs, data_samples
        if any('masks' in sample.gt_instances for sample in data_samples):
            raise ValueError(
                'objects must have boxes alone to be blended, got masks; leave out BatchCopyBlend, or '
                'load the annotations with with_mask=False'
            )
        height, width = inputs.shape[-2:]
        objects = [
            (image, sample.gt_instances[i : i + 1], box)
            for image, sample in zip(inputs, data_samples)
            for i, box in enumerate(_inside(sample.gt_instances.bboxes, height, width))
            if _area(box) >= max(self.min_area, 1)
        ]
        if not objects:
            return inputs, data_samples
        share = random.uniform(*self.ratio)
        blended = inputs.clone()
        for image, sample in zip(blended, data_samples):
            added = [sample.gt_instances]
            for source, instance, box in random.sample(objects, min(self.number, len(objects))):
                place = self._blend_(image, source, box, share)
                new = InstanceData(**dict(instance.items()))
                new.bboxes = instance.bboxes.new_tensor([place])
                added.append(new)
            sample.gt_instances = InstanceData.cat(added)
        return blended, data_samples

    def _blend_(self, image: Tensor, source: Tensor, box: Box, share: float) -> Box:
        """Blend ``box`` of ``source`` and its surroundings into ``image``; its box there."""
        size = image.shape[-1], image.shape[-2]
        margin = random.uniform(*self.margin)
        rows_and_columns, place = [], []
        for axis in (0, 1):  # x, y
            start, end = box[axis], box[axis + 2]
            length = end - start
            new = random.randint(0, size[axis] - length)
            around = int(margin * length)
            before = min(around, start, new)
            after = min(around, size[axis] - end, size[axis] - new - length)
            read = slice(start - before, end + after)
            rows_and_columns.append((read, slice(new - before, new + length + after)))
            place.append((new, new + length))
        (from_x, to_x), (from_y, to_y) = rows_and_columns
        image[:, to_y, to_x] = torch.lerp(source[:, from_y, from_x], image[:, to_y, to_x], share)
        return place[0][0], place[1][0], place[0][1], place[1][1]


def _inside(boxes: Tensor, height: int, width: int) -> list[Box]:
    """Boxes (N, 4) xyxy as whole pixels of the picture."""
    limits = boxes.new_tensor([width, height, width, height])
    inside = torch.minimum(boxes.clamp(min=0), limits).int().tolist()
    return [(left, top, right, bottom) for left, top, right, bottom in inside]


def _area(box: Box) -> int:
    left, top, right, bottom = box
    return max(right - left, 0) * max(bottom - top, 0)

"""Multi-scale training: the whole batch at a random size."""

from __future__ import annotations

import random
from collections.abc import Sequence

from mmdet.structures import SampleList
from torch import Tensor, nn
from torch.nn import functional as F

from ..registry import MODELS


@MODELS.register_module()
class BatchRandomResize(nn.Module):
    """Resize a batch to a square of a random size.

    An entry of ``batch_augments`` of mmdet's ``DetDataPreprocessor``.

    Args:
        sizes: sides of the square in pixels; a size that is listed several times is as much more
            frequent.
        mode: of ``torch.nn.functional.interpolate``: ``nearest`` (RT-DETR), ``bilinear`` (RF-DETR).
    """

    def __init__(self, sizes: Sequence[int], mode: str = 'nearest') -> None:
        super().__init__()
        if not sizes or any(size < 1 for size in sizes):
            raise ValueError(f'sizes must be positive numbers of pixels, got {list(sizes)}')
        self.sizes = tuple(sizes)
        self.mode = mode

    def forward(self, inputs: Tensor, data_samples: SampleList) -> tuple[Tensor, SampleList]:
        """(B, 3, H, W) -> (B, 3, S, S), with the samples' objects at their new places."""
        side = random.choice(self.sizes)
        height, width = inputs.shape[-2:]
        if (height, width) == (side, side):
            return inputs, data_samples
        factors = (side / height, side / width)
        for sample in data_samples:
            shape = tuple(round(x * f) for x, f in zip(sample.img_shape, factors, strict=True))
            sample.set_metainfo(
                {'img_shape': shape, 'pad_shape': (side, side), 'batch_input_shape': (side, side)}
            )
            boxes = sample.gt_instances.bboxes
            sample.gt_instances.bboxes = boxes * boxes.new_tensor(factors[::-1] * 2)
            if 'masks' in sample.gt_instances:
                sample.gt_instances.masks = sample.gt_instances.masks.resize(shape)
        return F.interpolate(inputs, size=(side, side), mode=self.mode), data_samples

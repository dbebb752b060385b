"""Folders of images without annotations, and patches of them to look for (UP-DETR)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import PackDetInputs
from mmengine.dataset import BaseDataset
from PIL import Image

from ..registry import DATASETS, TRANSFORMS
from .patch_augmentation import augment

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.JPEG', '.JPG', '.PNG')
PATCH = 1
"""The label of every patch; class 0 is not used (UP-DETR's code)."""


@DATASETS.register_module()
class UnlabelledImages(BaseDataset):
    """All images below a folder, e.g. ImageNet's, in the order of their paths.

    Args:
        data_root: the folder.
        repeat: how often each image stands in an epoch.
        kwargs: of MMEngine's ``BaseDataset``.
    """

    METAINFO = {'classes': ('unused', 'patch')}

    def __init__(self, data_root: str, repeat: int = 1, **kwargs: Any) -> None:
        self.repeat = repeat
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One entry per image.

        Raises:
            FileNotFoundError: there are no images.
        """
        files = sorted(p for p in Path(self.data_root).rglob('*') if p.suffix in SUFFIXES)
        if not files:
            raise FileNotFoundError(
                f'data_root must be a folder with images {SUFFIXES[:4]}, got {self.data_root} without '
                'any; name another one by --cfg-options train_dataloader.dataset.data_root=FOLDER'
            )
        return [
            {'img_path': str(file), 'img_id': number} for number, file in enumerate(files)
        ] * self.repeat

    def prepare_data(self, idx: int) -> dict | None:
        """The sample number ``idx``, or the next one whose image is large enough for patches."""
        for offset in range(len(self)):
            data = super().prepare_data((idx + offset) % len(self))
            if data is not None:
                return data
        raise ValueError(
            'at least one image must be large enough for patches, got none; choose larger images or '
            'a smaller min_size'
        )


@TRANSFORMS.register_module()
class RandomPatches(BaseTransform):
    """Boxes of random size and place become the objects of an image, and what is in them its patches.

    Sides are uniform between ``min_size`` and the image's (UP-DETR's code). Images with a side of
    ``2 * min_size`` or less are left out (None).

    Args:
        number: of patches.
        min_size: smallest side of a patch, in pixels.
        size: side of the square that a patch is resized to.
        mean, std: to normalise patches, RGB in 0..255, those of the model's data preprocessor.
    """

    def __init__(
        self,
        number: int = 10,
        min_size: int = 8,
        size: int = 128,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        self.number, self.min_size = number, min_size
        self.size = size
        self.mean, self.std = (np.array(values, np.float32) for values in (mean, std))

    def transform(self, results: dict) -> dict | None:
        height, width = results['img'].shape[:2]
        if min(height, width) <= 2 * self.min_size:
            return None
        image = Image.fromarray(np.ascontiguousarray(results['img'][..., ::-1]))  # BGR to RGB
        boxes = [random_box(width, height, self.min_size) for _ in range(self.number)]
        results['gt_bboxes'] = np.array(boxes, np.float32)
        results['gt_bboxes_labels'] = np.full(self.number, PATCH, np.int64)
        results['gt_ignore_flags'] = np.zeros(self.number, bool)
        results['query_patches'] = torch.stack([self.patch(image.crop(box)) for box in boxes])
        return results

    def patch(self, image: Image.Image) -> torch.Tensor:
        """(3, size, size): the resized image, changed at random and normalised."""
        image = augment(image.resize((self.size, self.size), Image.Resampling.BILINEAR))
        normalised = (np.asarray(image, np.float32) - self.mean) / self.std
        return torch.from_numpy(normalised).permute(2, 0, 1).contiguous()


def random_box(width: int, height: int, min_size: int) -> tuple[int, int, int, int]:
    """A box xyxy in an image of this size, by NumPy's global generator."""
    w = np.random.randint(min_size, width - min_size + 1)
    h = np.random.randint(min_size, height - min_size + 1)
    x, y = np.random.randint(width - w), np.random.randint(height - h)
    return x, y, x + w, y + h


@TRANSFORMS.register_module()
class PackPatches(PackDetInputs):
    """mmdet's ``PackDetInputs``; the sample has the ``query_patches`` (P, 3, h, w) too."""

    def transform(self, results: dict) -> dict:
        packed = super().transform(results)
        packed['data_samples'].query_patches = results['query_patches']
        return packed

"""Pixels of augmented images as they would be stored."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class RoundPixels(BaseTransform):
    """Round an image to uint8, which Pillow's resize needs.

    mmdet's changes of colours and images of 16 bits are float32. The published training of the
    real-time models changes colours in uint8.
    """

    def transform(self, results: dict) -> dict:
        """``img``: (H, W, 3), any type, to uint8 in 0..255."""
        image = results['img']
        if image.dtype != np.uint8:
            results['img'] = image.round().clip(0, 255).astype(np.uint8)
        return results

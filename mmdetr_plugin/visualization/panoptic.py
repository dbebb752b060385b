"""Draws panoptic segments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import PixelData

from ..registry import VISUALIZERS


@VISUALIZERS.register_module()
class PanopticVisualizer(DetLocalVisualizer):
    """mmdet's visualizer, which raises an error for an image without segments; this one does not."""

    def _draw_panoptic_seg(
        self,
        image: np.ndarray,
        panoptic_seg: PixelData,
        classes: Sequence[str],
        palette: list | None,
    ) -> np.ndarray:
        if (panoptic_seg.sem_seg == len(classes)).all():
            return image
        return super()._draw_panoptic_seg(image, panoptic_seg, classes, palette)

"""Panoptic segmentation from boxes with masks (DETR, section 4.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmengine.structures import PixelData
from torch import Tensor
from torch.nn import functional as F

from ..registry import MODELS
from .postprocess import PostProcess, SigmoidTopK, SoftmaxArgmax


class PanopticSegments(PostProcess):
    """Makes panoptic segments, of which every pixel has one, from masks of queries.

    Attributes:
        num_things: labels below it are things, the others stuff.
        score_thr: a query makes a segment if its best class scores more than this.
        min_area: the pixels of segments with at most this area are given to the other segments.
    """

    num_things: int
    score_thr: float
    min_area: int

    def best_classes(self, logits: Tensor) -> tuple[Tensor, Tensor, int]:
        """(N,) scores and (N,) labels of the queries' best classes, and the number of classes; a larger
        label means no object."""
        raise TypeError(f'{type(self).__name__} must define best_classes(logits)')

    def panoptic(
        self, logits: Tensor, masks: Tensor, canvas: Sequence[int], size: Sequence[int]
    ) -> PixelData:
        """``sem_seg`` (1, H, W) of one image, label + INSTANCE_OFFSET * instance in every pixel.

        Things are numbered from 1 within their class. A stuff class has instance 0; in the rare case
        of a second segment, that has instance 1. Without any segment, all pixels have the label K,
        which is no class. ``segments_info`` in the metainfo lists the segments in query order.

        Args:
            logits: (N, K) or with no-object (N, K + 1).
            masks: (N, h, w) logits.
            canvas: (height, width) to which the masks are resized, padding included: as published,
                that of the image without padding.
            size: (height, width) of the result.
        """
        scores, labels, num_classes = self.best_classes(logits)
        kept = (labels < num_classes) & (scores > self.score_thr)
        masks, labels = masks[kept].float(), labels[kept]
        if len(labels):
            masks = F.interpolate(masks[:, None], size=tuple(canvas), mode='bilinear')[:, 0]
            place, labels, areas = self._segments(masks, labels, size)
        if not len(labels):
            void = masks.new_full((1, *size), num_classes, dtype=torch.long)
            return PixelData(metainfo={'segments_info': []}, sem_seg=void)
        infos = self._describe(labels.tolist(), areas.tolist())
        codes = torch.tensor([info['id'] for info in infos], device=place.device)
        return PixelData(metainfo={'segments_info': infos}, sem_seg=codes[place][None])

    def _segments(
        self, masks: Tensor, labels: Tensor, size: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The segment (H, W) of every pixel; labels (n,) and areas (n,) of the segments."""
        rows, columns = (
            nearest_places(*lengths).to(masks.device)
            for lengths in zip(masks.shape[-2:], size, strict=True)
        )
        place = self._first_of_stuff(labels)[masks.argmax(0)]
        while True:
            place = place[rows][:, columns]
            areas = place.flatten().bincount(minlength=len(labels))
            large = areas > self.min_area
            if large.all() or not large.any():
                return place, labels[large], areas[large]
            masks, labels = masks[large], labels[large]
            place = masks.argmax(0)

    def _first_of_stuff(self, labels: Tensor) -> Tensor:
        """(n,): the first segment of the same stuff class; a thing is its own."""
        same = (labels[:, None] == labels) & (labels >= self.num_things)
        own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        return (same | own).int().argmax(1)

    def _describe(self, labels: list[int], areas: list[int]) -> list[dict]:
        seen: dict[int, int] = {}
        infos = []
        for label, area in zip(labels, areas, strict=True):
            thing = label < self.num_things
            instance = seen.get(label, 1 if thing else 0)
            seen[label] = instance + 1
            infos.append(
                {
                    'id': label + INSTANCE_OFFSET * instance,
                    'category_id': label,
                    'isthing': thing,
                    'area': area,
                }
            )
        return infos


@MODELS.register_module()
class PanopticArgmax(PanopticSegments, SoftmaxArgmax):
    """Detections as by ``SoftmaxArgmax``, and panoptic segments (DETR, section 4.4).

    Args:
        num_things, score_thr, min_area: of :class:`PanopticSegments`.
        max_per_img: as in ``SoftmaxArgmax``.
    """

    def __init__(
        self,
        num_things: int,
        score_thr: float = 0.85,
        min_area: int = 4,
        max_per_img: int | None = None,
    ) -> None:
        super().__init__(max_per_img)
        self.num_things, self.score_thr, self.min_area = num_things, score_thr, min_area

    def best_classes(self, logits: Tensor) -> tuple[Tensor, Tensor, int]:
        scores, labels = logits.float().softmax(-1).max(-1)
        return scores, labels, logits.shape[-1] - 1


@MODELS.register_module()
class PanopticTopK(PanopticSegments, SigmoidTopK):
    """Detections as by ``SigmoidTopK``, and panoptic segments as of :class:`PanopticArgmax`.

    Args:
        num_things, score_thr, min_area: of :class:`PanopticSegments`. Scores of focal losses are lower
            than a softmax's.
        max_per_img: as in ``SigmoidTopK``.
    """

    def __init__(
        self, num_things: int, score_thr: float = 0.4, min_area: int = 4, max_per_img: int = 100
    ) -> None:
        super().__init__(max_per_img)
        self.num_things, self.score_thr, self.min_area = num_things, score_thr, min_area

    def best_classes(self, logits: Tensor) -> tuple[Tensor, Tensor, int]:
        scores, labels = logits.float().sigmoid().max(-1)
        return scores, labels, logits.shape[-1]


def nearest_places(length: int, new_length: int) -> Tensor:
    """(new_length,): the old pixel that contains the centre of each new pixel.

    Where a centre falls on an edge, rounding decides. The published maps were resized by Pillow, so
    the positions are summed up step by step, which rounds as Pillow does.
    """
    steps = np.full(new_length, length / new_length)
    steps[:1] /= 2
    return torch.from_numpy(steps.cumsum().astype(np.int64).clip(max=length - 1))

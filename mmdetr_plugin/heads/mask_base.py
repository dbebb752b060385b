"""The contract of a mask head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmdet.structures import SampleList
from torch import Tensor, nn
from torch.nn import functional as F

from ..structures import Masks, Memory, Prediction
from .postprocess import Detections, PostProcess


@dataclass(frozen=True)
class Features:
    """The features of the image that a mask head may read.

    Attributes:
        levels: (B, c, h, w) maps of the backbone, fine to coarse, that the neck did not read.
        embedded: the memory that the encoder read.
        memory: the memory that the decoder read.
    """

    levels: tuple[Tensor, ...]
    embedded: Memory
    memory: Memory


class MaskHead(nn.Module):
    """Predicts masks of the queries and turns them into instance and panoptic segmentations.

    Args:
        threshold: probability above which a pixel belongs to an instance mask.
        chunk: number of masks that are resized at a time.
    """

    def __init__(self, threshold: float = 0.5, chunk: int = 25) -> None:
        super().__init__()
        if chunk < 1:
            raise ValueError(f'mask_head.chunk must be 1 or more, got {chunk}; change it')
        self.threshold, self.chunk = threshold, chunk

    def forward(self, predictions: Sequence[Prediction], features: Features) -> Masks:
        """Masks of all queries.

        Args:
            predictions: of the decoder's layers, the last one last, each with its ``hidden`` content.
        """
        raise TypeError(f'{type(self).__name__} must define forward(predictions, features)')

    def segment(
        self,
        samples: SampleList,
        prediction: Prediction,
        masks: Masks,
        detections: Detections,
        postprocess: PostProcess,
        canvas: Sequence[int],
        rescale: bool,
    ) -> None:
        """Add ``masks`` (M, H, W), bool, to the detections of every sample, and a
        ``pred_panoptic_seg`` where the post-processing makes one.

        Args:
            canvas: (height, width) of the padded batch, which the masks cover.
            rescale: give masks the size of the original images.
        """
        logits = masks.dense()
        for i, sample in enumerate(samples):
            inside = sample.img_shape[:2]
            size = sample.ori_shape[:2] if rescale else inside
            chosen = logits[i][detections.queries[i]]
            sample.pred_instances.masks = self.instances(chosen, canvas, inside, size)
            segments = postprocess.panoptic(prediction.logits[i], logits[i], inside, size)
            if segments is not None:
                sample.pred_panoptic_seg = segments

    def instances(
        self, masks: Tensor, canvas: Sequence[int], crop: Sequence[int], size: Sequence[int]
    ) -> Tensor:
        """Instance masks (M, H, W), bool, of mask logits (M, h, w).

        Args:
            canvas: (height, width) that the logits cover.
            crop: (height, width) of the image on it.
            size: (height, width) to resize to.
        """
        out = []
        for part in masks[:, None].split(self.chunk):
            wide = F.interpolate(part.float(), size=tuple(canvas), mode='bilinear')
            inside = wide[..., : crop[0], : crop[1]].sigmoid() > self.threshold
            out.append(F.interpolate(inside.to(torch.uint8), size=tuple(size))[:, 0].bool())
        return torch.cat(out)

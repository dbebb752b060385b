"""Post-processing: from predictions to detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmcv.ops import batched_nms
from mmdet.structures import SampleList
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from ..ops.boxes import cxcywh_to_xyxy
from ..ops.nms import apart, distinct
from ..registry import MODELS


class Detections(NamedTuple):
    """The detections of B images, M in each."""

    scores: Tensor
    """(B, M)."""
    labels: Tensor
    """(B, M)."""
    queries: Tensor
    """(B, M), the query of each detection."""
    counts: tuple[int, ...] | None = None
    """Detections of each image, where their numbers differ and the rest is padding; None = M."""


class PostProcess(nn.Module):
    """Detections from the last layer's predictions.

    Args:
        score_thr: detections with lower scores are left out.
        nms: ``dict(type='nms', iou_threshold=...)`` of mmcv's ``batched_nms``: of overlapping
            detections of a class the best stays; None = all stay, as these models need no suppression.
    """

    def __init__(self, score_thr: float = 0.0, nms: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        if not isinstance(score_thr, (int, float)) or not 0 <= score_thr <= 1:
            raise ValueError(
                f'postprocess.score_thr must be a number from 0 to 1, got {score_thr!r}; change it'
            )
        if nms is not None and not (isinstance(nms, Mapping) and 'iou_threshold' in nms):
            raise ValueError(
                "postprocess.nms must be a dict such as dict(type='nms', iou_threshold=0.7), got "
                f'{nms!r}; change it, or leave it out'
            )
        self.least_score, self.nms = score_thr, None if nms is None else dict(nms)

    def select(self, instances: InstanceData) -> InstanceData:
        """The detections of an image that ``score_thr`` and ``nms`` leave."""
        if self.least_score > 0:
            instances = instances[instances.scores >= self.least_score]
        if self.nms is not None and len(instances):
            boxes, scores, labels = instances.bboxes, instances.scores, instances.labels
            _, kept = batched_nms(boxes.float(), scores.float(), labels, dict(self.nms))
            instances = instances[kept]
        return instances

    def kept(self, scores: Tensor, labels: Tensor, boxes: Tensor) -> Tensor:
        """(B, M) bool: what :meth:`select` leaves of the detections of all images, without a shape that
        depends on them, for exported graphs.

        Args:
            scores, labels: (B, M).
            boxes: (B, M, 4), xyxy.

        Raises:
            ValueError: the suppression is not the plain one.
        """
        kept = scores >= self.least_score
        if self.nms is None:
            return kept
        plain = {'type': 'nms', 'iou_threshold': self.nms['iou_threshold']}
        if {'type': 'nms', **self.nms} != plain:
            raise ValueError(
                f'an exported graph needs a postprocess.nms of the form {plain}, got {self.nms}; '
                'change it, or leave it out'
            )
        return distinct(apart(boxes, labels), scores, plain['iou_threshold'], kept)

    def forward(self, logits: Tensor, boxes: Tensor) -> Detections:
        """Detections of logits (B, N, K) and boxes (B, N, 4).

        Heads may predict a box for each class: these are (B, N, K, 4).
        """
        raise TypeError(f'{type(self).__name__} must define forward(logits, boxes)')

    def panoptic(
        self, logits: Tensor, masks: Tensor, canvas: Sequence[int], size: Sequence[int]
    ) -> PixelData | None:
        """Segments of one image from its mask logits; None = this post-processing makes none.

        Args:
            logits: (N, K).
            masks: (N, h, w) logits.
            canvas: (height, width) to which the masks are resized.
            size: (height, width) of the result.
        """
        return None


@MODELS.register_module()
class SoftmaxArgmax(PostProcess):
    """One detection per query: its best class other than no-object, in the order of the queries.

    Args:
        max_per_img: keep this many detections, sorted by score; None = all, unsorted (DETR).
        score_thr, nms: of :class:`PostProcess`.
    """

    def __init__(
        self,
        max_per_img: int | None = None,
        score_thr: float = 0.0,
        nms: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(score_thr, nms)
        check_number_of_detections(max_per_img, optional=True)
        self.max_per_img = max_per_img

    def forward(self, logits: Tensor, boxes: Tensor) -> Detections:
        """Detections of logits (B, N, K + 1), whose last column is no-object. Boxes are not read."""
        scores, labels = logits.float().softmax(-1)[..., :-1].max(-1)
        if self.max_per_img is None:
            index = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
            return Detections(scores, labels, index)
        scores, index = scores.topk(min(self.max_per_img, scores.shape[1]))
        return Detections(scores, labels.gather(1, index), index)


@MODELS.register_module()
class SigmoidTopK(PostProcess):
    """The best ``max_per_img`` (query, class) pairs, or all pairs where there are fewer.

    Args:
        max_per_img: number of detections of an image.
        score_thr, nms: of :class:`PostProcess`.
    """

    def __init__(
        self,
        max_per_img: int = 100,
        score_thr: float = 0.0,
        nms: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(score_thr, nms)
        check_number_of_detections(max_per_img)
        self.max_per_img = max_per_img

    def forward(self, logits: Tensor, boxes: Tensor) -> Detections:
        """Detections of logits (B, N, K). Boxes are not read."""
        pairs = logits.float().sigmoid().flatten(1)
        scores, index = pairs.topk(min(self.max_per_img, pairs.shape[1]))
        width = logits.shape[-1]
        return Detections(scores, index % width, index.div(width, rounding_mode='floor'))


def check_number_of_detections(number: object, optional: bool = False) -> None:
    """Raise ValueError unless it is a positive integer, or None if ``optional``."""
    if not (optional and number is None) and (type(number) is not int or number < 1):
        raise ValueError(
            f'postprocess.max_per_img must be a positive integer, got {number!r}; change it'
        )


def detected_corners(boxes: Tensor, found: Detections) -> Tensor:
    """(B, M, 4): the boxes xyxy of detections, of boxes (B, N, 4) or (B, N, K, 4) of the queries, in
    the same frame."""
    index = found.queries
    if boxes.dim() == 4:
        index = index * boxes.shape[2] + found.labels
        boxes = boxes.flatten(1, 2)
    return cxcywh_to_xyxy(boxes.float().gather(1, index[..., None].expand(-1, -1, 4)))


def to_instances(
    boxes: Tensor, found: Detections, samples: SampleList, rescale: bool
) -> list[InstanceData]:
    """mmdet's instances, boxes xyxy in pixels, of boxes (B, N, 4) or (B, N, K, 4) of the queries.

    Args:
        rescale: in pixels of the original images, else of the network's input.
    """
    boxes_xyxy = detected_corners(boxes, found)
    instances = []
    for i, sample in enumerate(samples):
        height, width = sample.ori_shape[:2] if rescale else sample.img_shape[:2]
        pixels = boxes_xyxy[i] * boxes_xyxy.new_tensor((width, height, width, height))
        made = InstanceData(bboxes=pixels, scores=found.scores[i], labels=found.labels[i])
        instances.append(made if found.counts is None else made[: found.counts[i]])
    return instances


def check_finite(samples: SampleList) -> None:
    """Wait for the detections of ``samples``, and raise FloatingPointError if some are not finite."""
    found = [sample.pred_instances for sample in samples]
    finite = [torch.isfinite(x.scores).all() & torch.isfinite(x.bboxes).all() for x in found]
    good = torch.stack(finite).tolist() if finite else []
    wrong = [sample for sample, well in zip(samples, good, strict=True) if not well]
    if wrong:
        names = [str(sample.get('img_path', sample.get('img_id'))) for sample in wrong[:3]]
        raise FloatingPointError(
            f'predictions must be finite, got NaN or infinity in {len(wrong)} images, such as '
            f'{", ".join(names)}; look for NaN in the weights and in these images, and evaluate '
            'without fp16'
        )

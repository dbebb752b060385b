"""Post-processing with non-maximum suppression."""

from __future__ import annotations

import torch
from mmcv.ops import batched_nms
from torch import Tensor

from ..ops.boxes import cxcywh_to_xyxy
from ..registry import MODELS
from .postprocess import Detections, PostProcess


@MODELS.register_module()
class ClasswiseNMS(PostProcess):
    """The best (query, class) pairs, of which those stay that overlap no better one of their class.

    Args:
        iou_threshold: of two boxes of a class that overlap more than this, the better one stays.
        max_per_img: number of detections; there may be fewer.
        max_candidates: number of pairs before the suppression.
        softmax: the last column of the logits is background; False: sigmoids.
        root: scores are square roots of the probabilities.
    """

    def __init__(
        self,
        iou_threshold: float,
        max_per_img: int = 100,
        max_candidates: int = 1000,
        softmax: bool = False,
        root: bool = False,
    ) -> None:
        super().__init__()
        self.suppression = {'type': 'nms', 'iou_threshold': iou_threshold}
        self.max_per_img, self.max_candidates = max_per_img, max_candidates
        self.softmax, self.root = softmax, root

    def forward(self, logits: Tensor, boxes: Tensor) -> Detections:
        """Detections of logits (B, N, K) and boxes (B, N, 4), or (B, N, K, 4) for each class."""
        logits = logits.float()
        # A query that is left out has no finite logit.
        scores = logits.softmax(-1)[..., :-1].nan_to_num(0) if self.softmax else logits.sigmoid()
        width = scores.shape[-1]
        number = min(self.max_candidates, scores[0].numel())
        scores, index = scores.flatten(1).topk(number)
        queries, labels = index.div(width, rounding_mode='floor'), index % width
        found = []
        for i, score in enumerate(scores):
            corners = cxcywh_to_xyxy(boxes[i].float())
            chosen = corners[queries[i]] if boxes.dim() == 3 else corners[queries[i], labels[i]]
            _, kept = batched_nms(chosen, score, labels[i], self.suppression)
            kept = kept[score[kept] > 0][: self.max_per_img]
            found.append((score[kept], labels[i, kept], queries[i, kept]))
        counts = tuple(len(score) for score, _, _ in found)
        padded = [torch.nn.utils.rnn.pad_sequence(list(x), batch_first=True) for x in zip(*found)]
        padded[0] = padded[0].sqrt() if self.root else padded[0]
        return Detections(padded[0], padded[1], padded[2], counts)

"""Post-processing with non-maximum suppression."""

from __future__ import annotations

from torch import Tensor

from ..ops.exporting import exporting
from ..ops.nms import apart, distinct
from ..registry import MODELS
from .postprocess import Detections, PostProcess, detected_corners


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
        self.iou_threshold = iou_threshold
        self.max_per_img, self.max_candidates = max_per_img, max_candidates
        self.softmax, self.root = softmax, root

    def forward(self, logits: Tensor, boxes: Tensor) -> Detections:
        """Detections of logits (B, N, K) and boxes (B, N, 4), or (B, N, K, 4) for each class."""
        logits = logits.float()
        # A query that is left out has no finite logit.
        scores = logits.softmax(-1)[..., :-1].nan_to_num(0) if self.softmax else logits.sigmoid()
        width = scores.shape[-1]
        number = min(self.max_candidates, scores.shape[1] * width)
        scores, index = scores.flatten(1).topk(number)
        queries, labels = index.div(width, rounding_mode='floor'), index % width
        corners = detected_corners(boxes, Detections(scores, labels, queries))
        kept = distinct(apart(corners, labels), scores, self.iou_threshold, scores > 0)
        # Those that stay come first, in the order of their scores.
        scores, order = scores.masked_fill(~kept, 0.0).topk(min(self.max_per_img, number))
        labels, queries = labels.gather(1, order), queries.gather(1, order)
        counts = None if exporting() else tuple((scores > 0).sum(1).tolist())
        return Detections(scores.sqrt() if self.root else scores, labels, queries, counts)

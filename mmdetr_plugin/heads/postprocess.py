"""From outputs to detections (slot S12)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..registry import MODELS

Detections = tuple[Tensor, Tensor, Tensor]


@MODELS.register_module()
class SoftmaxArgmax(nn.Module):
    """Every query gives its best class other than no-object, in the order of the queries.

    Args:
        max_per_img: keep the best so many, sorted by score; None = all, unsorted (DETR).
    """

    def __init__(self, max_per_img: int | None = None) -> None:
        super().__init__()
        self.max_per_img = max_per_img

    def forward(self, logits: Tensor, boxes: Tensor) -> Detections:
        """Scores (B, M), labels (B, M), and the index (B, M) of the query of each.

        Args:
            logits: (B, N, K + 1), the last column being no-object.
            boxes: (B, N, 4); only its shape counts.
        """
        scores, labels = logits.float().softmax(-1)[..., :-1].max(-1)
        if self.max_per_img is None:
            index = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
            return scores, labels, index
        scores, index = scores.topk(min(self.max_per_img, scores.shape[1]))
        return scores, labels.gather(1, index), index


@MODELS.register_module()
class SigmoidTopK(nn.Module):
    """The best ``max_per_img`` (query, class) pairs; fewer if there are not so many."""

    def __init__(self, max_per_img: int = 100) -> None:
        super().__init__()
        self.max_per_img = max_per_img

    def forward(self, logits: Tensor, boxes: Tensor) -> Detections:
        """Scores (B, M), labels (B, M), and the index (B, M) of the query of each."""
        pairs = logits.float().sigmoid().flatten(1)
        scores, index = pairs.topk(min(self.max_per_img, pairs.shape[1]))
        width = logits.shape[-1]
        return scores, index % width, index.div(width, rounding_mode='floor')

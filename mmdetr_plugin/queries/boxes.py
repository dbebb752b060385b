"""Queries that are learned boxes (DAB-DETR, section 4.2; SAM-DETR, section 3)."""

from __future__ import annotations

import torch
from torch import nn

from ..checkpoints.rows import QUERIES, Rows
from ..heads.base import Head
from ..ops.coordinates import inverse_sigmoid
from ..registry import MODELS
from ..structures import LogitReference, Memory, State, Targets
from .base import Made, QuerySource, expand


@MODELS.register_module()
class LearnedBoxes(QuerySource):
    """A learned box (cx, cy, w, h), in logit space, per query; the content starts at zero.

    Args:
        num_queries: number of boxes.
        learned_content: learn a content for each box (DAB-Deformable DETR).
        num_patterns: number of learned contents that are added to every box in turn, pattern after
            pattern: there are num_patterns x num_queries queries. 0 = no patterns, one query per box.
        fixed_xy: the centres are drawn uniformly over the image and are not trained (DAB-DETR,
            appendix). As published, they stay entries of the trainable ``boxes`` with a gradient of
            zero, so the optimizer must not apply weight decay to ``queries.boxes``.
    """

    def __init__(
        self,
        num_queries: int,
        embed_dims: int = 256,
        learned_content: bool = False,
        num_patterns: int = 0,
        fixed_xy: bool = False,
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.embed_dims = embed_dims
        self.num_patterns = num_patterns
        self.fixed_xy = fixed_xy
        self.boxes = nn.Embedding(num_queries, 4)
        self.content = nn.Embedding(num_queries, embed_dims) if learned_content else None
        self.patterns = nn.Embedding(num_patterns, embed_dims) if num_patterns else None
        if fixed_xy:
            with torch.no_grad():
                xy = self.boxes.weight[:, :2]
                xy.copy_(inverse_sigmoid(xy.uniform_(0, 1), 1e-3))

    @property
    def separable(self) -> bool:
        return not self.num_patterns

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        return self._make(self.num_queries, memory), None

    def first(self, number: int, memory: Memory, head: Head) -> Made:
        if self.num_patterns:
            return super().first(number, memory, head)
        return self._make(number, memory), None

    def _make(self, number: int, memory: Memory) -> State:
        ref = self.boxes.weight[:number]
        if self.fixed_xy:
            ref = torch.cat((ref[:, :2].detach(), ref[:, 2:]), -1)
        content = ref.new_zeros(()).expand(number, self.embed_dims)
        if self.content is not None:
            content = self.content.weight[:number]
        if self.patterns is not None:
            content = (self.patterns.weight[:, None] + content).flatten(0, 1)
            ref = ref.repeat(self.num_patterns, 1)
        return State(expand(content, memory), ref=LogitReference(expand(ref, memory)))

    def rows(self) -> dict[str, Rows]:
        return dict.fromkeys(('boxes.', 'content.', 'patterns.'), Rows(QUERIES))

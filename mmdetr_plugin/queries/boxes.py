"""Queries that are learned boxes (DAB-DETR, section 4.1; SAM-DETR, section 3.3)."""

from __future__ import annotations

from torch import nn

from ..registry import MODELS
from ..structures import Memory, State
from .base import QuerySource


@MODELS.register_module()
class LearnedBoxes(QuerySource):
    """A learned box (cx, cy, w, h), in logit space, per query; content starts at zero."""

    def __init__(self, num_queries: int, embed_dims: int = 256) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.embed_dims = embed_dims
        self.boxes = nn.Embedding(num_queries, 4)

    def forward(self, memory: Memory, head: nn.Module) -> tuple[State, None]:
        ref = self.boxes.weight.expand(len(memory.tokens), -1, -1)
        content = ref.new_zeros(()).expand(*ref.shape[:2], self.embed_dims)
        return State(content, ref=ref), None

    def keys(self, layout: str) -> dict[str, str]:
        return {'boxes.': '/query_embed.' if layout == 'sam' else '/refpoint_embed.'}

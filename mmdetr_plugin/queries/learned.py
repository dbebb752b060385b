"""Queries that are parameters of the model."""

from __future__ import annotations

from torch import Tensor, nn

from ..build import build_slot
from ..checkpoints.rows import QUERIES, Rows
from ..heads.base import Head
from ..ops.precision import no_autocast
from ..registry import MODELS
from ..structures import LogitReference, Memory, Reference, State, Targets
from .base import Made, QuerySource, expand

PLACES = ('attention', 'input')


@MODELS.register_module()
class LearnedQueries(QuerySource):
    """A learned position per query; content starts at zero (DETR) or is learned too (Deformable).

    Args:
        learned_content: the embedding then holds (position, content) side by side.
        reference: a module (B, N, C) -> (B, N, 2 | 4) that computes the reference, in logit space,
            from the position; None = no reference.
        at: ``attention`` adds the position in every attention of the decoder; ``input`` once, to
            the content (DETR, table 3).
    """

    def __init__(
        self,
        num_queries: int,
        embed_dims: int = 256,
        learned_content: bool = False,
        reference: dict | None = None,
        at: str = 'attention',
    ) -> None:
        super().__init__()
        if at not in PLACES:
            raise ValueError(f'queries.at must be one of {PLACES}, got {at!r}; change it')
        self.at = at
        self.num_queries = num_queries
        self.learned_content = learned_content
        self.embedding = nn.Embedding(num_queries, embed_dims * (1 + learned_content))
        self.reference = build_slot(
            MODELS, reference, 'reference', embed_dims=embed_dims, num_queries=num_queries
        )

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        return self.first(self.num_queries, memory, head)

    def first(self, number: int, memory: Memory, head: Head) -> Made:
        embedding = expand(self.embedding.weight[:number], memory)
        if self.learned_content:
            pos, content = embedding.chunk(2, -1)
        else:
            pos, content = embedding, embedding.new_zeros(()).expand_as(embedding)
        with no_autocast(pos.device):  # places are never in half precision
            ref = None if self.reference is None else LogitReference(self.reference(pos))
        if self.at == 'input':
            return State(content + pos, None, ref), None
        return State(content, pos, ref), None

    def place(self, ref: Reference, content: Tensor, memory: Memory) -> State:
        return State(content, ref=None if self.reference is None else ref.points())

    def rows(self) -> dict[str, Rows]:
        return {'embedding.': Rows(QUERIES)}


@MODELS.register_module()
class LinearReference(nn.Linear):
    """Reference points as a linear function of the query position (Deformable DETR, A.3)."""

    def __init__(self, embed_dims: int = 256) -> None:
        super().__init__(embed_dims, 2)
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

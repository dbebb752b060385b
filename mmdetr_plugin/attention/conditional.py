"""Attention with separate projections of content and position (Conditional DETR, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..ops.linear import Linear
from ..registry import MODELS
from ..structures import Memory, State
from .base import AttentionOp, GuidedAttention, attend, check_heads, split_heads
from .records import Attention, DenseAttention, attention_weights, key_shapes


class DecoupledAttention(AttentionOp):
    """Separate projections of content and position."""

    def __init__(self, embed_dims: int = 256, num_heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.dropout = dropout
        self.query_content = Linear(embed_dims, embed_dims)
        self.query_pos = Linear(embed_dims, embed_dims)
        self.key_content = Linear(embed_dims, embed_dims)
        self.key_pos = Linear(embed_dims, embed_dims)
        self.value = Linear(embed_dims, embed_dims)
        self.out_proj = Linear(embed_dims, embed_dims)
        nn.init.zeros_(self.out_proj.bias)


@MODELS.register_module()
class DecoupledSelfAttention(DecoupledAttention):
    """Attention among the queries; the projections of content and position are added."""

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        return self.out_proj(attend(*self._inputs(state), state.self_mask, dropout))

    def observe(self, state: State, memory: Memory, layer: int) -> Attention:
        q, k, v = self._inputs(state)
        weights = attention_weights(q, k, state.self_mask)
        return DenseAttention(v, key_shapes(state, memory), weights)

    def _inputs(self, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (B, heads, N, D)."""
        q, k = self.query_content(state.content), self.key_content(state.content)
        if state.pos is not None:
            q, k = q + self.query_pos(state.pos), k + self.key_pos(state.pos)
        v = self.value(state.content)
        q, k, v = (split_heads(x, self.num_heads) for x in (q, k, v))
        return q, k, v


@MODELS.register_module()
class ConditionalCrossAttention(GuidedAttention, DecoupledAttention):
    """Attention with scores c_q . c_k + p_q . p_k, of content and of position (eq. 3).

    In each head the query is the concatenation of content and spatial query, and the key that of
    content and position, so both are twice as wide as the value. Before layer 0 the queries know
    nothing of the image; only there, query position and key position are also added to the content.

    Args:
        prior, layer: see :class:`GuidedAttention`.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        dropout: float = 0.1,
        prior: Mapping | None = None,
        layer: int = 0,
    ) -> None:
        super().__init__(embed_dims, num_heads, dropout, prior, layer)
        self.query_spatial = Linear(embed_dims, embed_dims)
        self.adds_position = layer == 0
        if not self.adds_position:
            del self.query_pos

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        return self.out_proj(self.attend_memory(*self._inputs(state, memory), state, memory))

    def observe(self, state: State, memory: Memory, layer: int) -> Attention:
        q, k, v = self._inputs(state, memory)
        made = self.observe_memory(q, k, v, state, memory)
        # Each half alone, with the scale of both together.
        halves = zip((q * 2**-0.5).chunk(2, -1), k.chunk(2, -1), strict=True)
        content, spatial = (attention_weights(*half, memory.key_mask) for half in halves)
        return replace(made, parts={**made.parts, 'content': content, 'spatial': spatial})

    def _inputs(self, state: State, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys (B, heads, N, 2 D), content before position, and values (B, heads, S, D)."""
        q, k = self.query_content(state.content), self.key_content(memory.tokens)
        key_pos = self.key_pos(memory.pos)
        if self.adds_position and state.pos is not None:
            q, k = q + self.query_pos(state.pos), k + key_pos
        q = self._join(q, self.query_spatial(self._spatial(state)))
        v = split_heads(self.value(memory.tokens), self.num_heads)
        return q, self._join(k, key_pos), v

    def _spatial(self, state: State) -> Tensor:
        """(B, N, C) spatial query."""
        if state.spatial is None:
            raise ValueError(
                'ConditionalCrossAttention needs a spatial query, got State.spatial=None; set '
                "decoder.query_position, for example dict(type='ConditionalPosition')"
            )
        return state.spatial(state.content) if callable(state.spatial) else state.spatial

    def _join(self, content: Tensor, place: Tensor) -> Tensor:
        """Twice (B, N, C) -> (B, heads, N, 2 C / heads)."""
        return torch.cat([split_heads(x, self.num_heads) for x in (content, place)], -1)

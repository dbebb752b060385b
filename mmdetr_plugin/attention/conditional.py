"""Attention with content and position kept apart (Conditional DETR, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..registry import MODELS
from ..structures import Memory, State
from .base import AttentionOp, GuidedAttention, attend, check_heads, split_heads


class DecoupledAttention(AttentionOp):
    """Projections of content and position, each by itself."""

    official = ''  # what the official names begin with

    def __init__(self, embed_dims: int = 256, num_heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.dropout = dropout
        self.query_content = nn.Linear(embed_dims, embed_dims)
        self.query_pos = nn.Linear(embed_dims, embed_dims)
        self.key_content = nn.Linear(embed_dims, embed_dims)
        self.key_pos = nn.Linear(embed_dims, embed_dims)
        self.value = nn.Linear(embed_dims, embed_dims)
        self.out_proj = nn.Linear(embed_dims, embed_dims)
        nn.init.zeros_(self.out_proj.bias)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Projected queries and keys by heads, values (B, S, C) not projected yet -> (B, N, C)."""
        v = split_heads(self.value(v), self.num_heads)
        return self.out_proj(attend(q, k, v, mask, self.dropout if self.training else 0.0))

    def keys(self, layout: str) -> dict[str, str]:
        names = {
            'query_content': 'qcontent',
            'query_pos': 'qpos',
            'key_content': 'kcontent',
            'key_pos': 'kpos',
            'value': 'v',
        }
        if layout.startswith('hf'):
            return self._hf_keys(layout)
        place = '' if layout.startswith('mmdet') else f'../{self.official}_'
        return {f'{ours}.': f'{place}{theirs}_proj.' for ours, theirs in names.items()}

    def _hf_keys(self, layout: str) -> dict[str, str] | None:
        if layout not in ('hf_detr', 'hf_dab'):
            return None
        ours = ('query_content', 'query_pos', 'key_content', 'key_pos', 'value')
        if layout == 'hf_dab':
            kind = {'sa': 'self_attn', 'ca': 'cross_attn'}[self.official]
            names = {f'{name}.': f'{kind}_{name}_proj.' for name in (*ours, 'query_spatial')}
            spatial = f'{kind}_query_pos_sine_proj.'
            return {**names, 'query_spatial.': spatial, 'out_proj.': f'{kind}.output_proj.'}
        theirs = ('q_content', 'q_pos', 'k_content', 'k_pos', 'v', 'q_pos_sine')
        names = {f'{a}.': f'{b}_proj.' for a, b in zip((*ours, 'query_spatial'), theirs)}
        return {**names, 'out_proj.': 'o_proj.'}


@MODELS.register_module()
class DecoupledSelfAttention(DecoupledAttention):
    """Attention among the queries; the projections of content and position are added."""

    official = 'sa'

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        q, k = self.query_content(state.content), self.key_content(state.content)
        if state.pos is not None:
            q, k = q + self.query_pos(state.pos), k + self.key_pos(state.pos)
        q, k = split_heads(q, self.num_heads), split_heads(k, self.num_heads)
        return self.attend(q, k, state.content, state.self_mask)


@MODELS.register_module()
class ConditionalCrossAttention(GuidedAttention, DecoupledAttention):
    """Attention by content plus attention by place: c_q . c_k + p_q . p_k (eq. 3).

    In each head the query is (content, spatial query) and the key (content, position), side by
    side, so both are twice as wide as the value. Nothing is known of the image before layer 0, so
    only there the query position and the key position are also added to the content.

    Args:
        prior: see :class:`GuidedAttention`.
        layer: index of the decoder layer.
    """

    official = 'ca'

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        dropout: float = 0.1,
        prior: Mapping | None = None,
        layer: int = 0,
    ) -> None:
        super().__init__(embed_dims, num_heads, dropout, prior, layer)
        self.query_spatial = nn.Linear(embed_dims, embed_dims)
        if layer > 0:
            self.query_pos = None

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        q, k = self.query_content(state.content), self.key_content(memory.tokens)
        key_pos = self.key_pos(memory.pos)
        if self.query_pos is not None and state.pos is not None:
            q, k = q + self.query_pos(state.pos), k + key_pos
        q = self._join(q, self.query_spatial(self._spatial(state)))
        v = split_heads(self.value(memory.tokens), self.num_heads)
        return self.out_proj(self.attend_memory(q, self._join(k, key_pos), v, state, memory))

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

    def keys(self, layout: str) -> dict[str, str] | None:
        if layout.startswith('hf'):
            return super().keys(layout)
        if layout.startswith('mmdet'):
            return {**super().keys(layout), 'query_spatial.': 'qpos_sine_proj.'}
        spatial = {'query_spatial.': '../ca_qpos_sine_proj.'}
        return {**super().keys(layout), **spatial, 'out_proj.': '../cross_attn.out_proj.'}

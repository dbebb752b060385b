"""Scaled dot-product attention over all keys (DETR, Vaswani et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..registry import MODELS
from ..structures import Memory, State
from .base import AttentionOp, attend, check_heads, split_heads


class MultiheadAttention(AttentionOp):
    """Projections of the standard attention, parameters in the layout of ``nn.MultiheadAttention``."""

    def __init__(self, embed_dims: int = 256, num_heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dims, embed_dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dims))
        self.out_proj = nn.Linear(embed_dims, embed_dims)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Project ``q (B, N, C)``, ``k`` and ``v (B, S, C)``, attend, project back: (B, N, C)."""
        width = q.shape[-1]
        if q is k:
            qk = F.linear(q, self.in_proj_weight[: 2 * width], self.in_proj_bias[: 2 * width])
            q, k = qk.chunk(2, -1)
        else:
            q = F.linear(q, self.in_proj_weight[:width], self.in_proj_bias[:width])
            k = F.linear(k, *(p[width : 2 * width] for p in (self.in_proj_weight, self.in_proj_bias)))
        v = F.linear(v, self.in_proj_weight[2 * width :], self.in_proj_bias[2 * width :])
        q, k, v = (split_heads(x, self.num_heads) for x in (q, k, v))
        return self.out_proj(attend(q, k, v, mask, self.dropout if self.training else 0.0))


@MODELS.register_module()
class SelfAttention(MultiheadAttention):
    """Attention among the tokens of the state; position goes to queries and keys, not to values."""

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        x = state.with_pos()
        return self.attend(x, x, state.content, state.self_mask)


@MODELS.register_module()
class CrossAttention(MultiheadAttention):
    """Attention from the state to every unpadded token of the memory."""

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        keys = memory.tokens + memory.pos
        return self.attend(state.with_pos(), keys, memory.tokens, memory.key_mask)

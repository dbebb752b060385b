"""The one contract of the family: what an attention op is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..structures import Memory, State


class AttentionOp(nn.Module):
    """``op(state, memory, layer) -> (B, N, C)``: what the layer adds to the content.

    The signature is wide enough for every variant: ops see the 2-D structure of the memory, the
    reference of the queries and the index of the layer. ``prepare`` is called before the first op of
    the layer runs, for ops that read the content as it enters the layer or that make the reference.
    """

    def prepare(self, state: State, memory: Memory, layer: int) -> State:
        return state

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        raise TypeError(f'{type(self).__name__} must define forward(state, memory, layer)')

    def init_weights_(self) -> None:
        """Published initial values where they differ from Xavier for matrices."""


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, C) -> (B, heads, N, C / heads)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, heads, N, D) -> (B, N, heads * D)."""
    return x.transpose(1, 2).flatten(2)


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """softmax(q k^T / sqrt(D) + mask) v without materialised weights.

    Args:
        q: (B, heads, N, D).
        k: (B, heads, S, D).
        v: (B, heads, S, E), E may differ from D.
        mask: broadcastable to (B, heads, N, S); bool (True = attend) or added to the scores.
        dropout: share of attention weights dropped.

    Returns:
        (B, N, heads * E).
    """
    out = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout
    )
    return join_heads(out)


def check_heads(embed_dims: int, num_heads: int) -> None:
    """Raise ValueError unless ``embed_dims`` divides into ``num_heads`` heads."""
    if embed_dims % num_heads:
        raise ValueError(
            f'embed_dims must be divisible by num_heads, got {embed_dims} and {num_heads}; '
            'change one of them'
        )

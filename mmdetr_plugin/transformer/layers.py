"""Transformer layers: residual, dropout and norm around the ops (post-norm, as all of the family)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..attention.base import AttentionOp
from ..build import build_slot
from ..ops.dropout import Dropout
from ..registry import MODELS
from ..structures import Memory, State

DEFAULT_FFN = {'type': 'FeedForward'}


class Residual(nn.Module):
    """x -> norm(x + dropout(update))."""

    def __init__(self, embed_dims: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(embed_dims)

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        return self.norm(x + self.dropout(update))


def run_layer(
    layer: nn.Module, state: State, memory: Memory, index: int, with_cp: bool = False
) -> State:
    """``layer(state, memory, index)``; ``with_cp``: the backward pass computes its inside again."""
    if not (with_cp and torch.is_grad_enabled()):
        return layer(state, memory, index)

    def call(content: Tensor) -> State:
        return layer(replace(state, content=content), memory, index)

    # Of the arguments only tensors tell whose random numbers have to come again.
    return checkpoint(call, state.content, use_reentrant=False)


class TransformerLayer(nn.Module):
    """Attention ops in turn, then the feed-forward part.

    Args:
        ops: configs of the ops by name, in the order in which they run.
        ffn: config of the feed-forward part; None leaves it out (DETR, table 4).
    """

    def __init__(
        self,
        ops: Mapping[str, Mapping | None],
        ffn: Mapping | None,
        embed_dims: int,
        dropout: float,
        layer: int,
    ) -> None:
        super().__init__()
        self.op_names = tuple(name for name, cfg in ops.items() if cfg is not None)
        shared = {'embed_dims': embed_dims, 'dropout': dropout, 'layer': layer}
        for name in self.op_names:
            self.add_module(name, build_slot(MODELS, ops[name], name, **shared))
            self.add_module(f'{name}_out', Residual(embed_dims, dropout))
        self.ffn = build_slot(MODELS, ffn, 'ffn', **shared)
        self.ffn_out = None if ffn is None else Residual(embed_dims, dropout)

    def ops(self) -> list[AttentionOp]:
        return [getattr(self, name) for name in self.op_names]

    def forward(self, state: State, memory: Memory, layer: int) -> State:
        for op in self.ops():
            state = op.prepare(state, memory, layer)
        for name, op in zip(self.op_names, self.ops(), strict=True):
            update = op(state, memory, layer)
            state = replace(state, content=getattr(self, f'{name}_out')(state.content, update))
        if self.ffn is None:
            return state
        return replace(state, content=self.ffn_out(state.content, self.ffn(state.content)))


@MODELS.register_module()
class EncoderLayer(TransformerLayer):
    """Self-attention of the memory and a feed-forward part."""

    def __init__(
        self,
        self_attn: Mapping | None,
        ffn: Mapping | None = DEFAULT_FFN,
        embed_dims: int = 256,
        dropout: float = 0.1,
        layer: int = 0,
    ) -> None:
        super().__init__({'self_attn': self_attn}, ffn, embed_dims, dropout, layer)


@MODELS.register_module()
class DecoderLayer(TransformerLayer):
    """Self-attention of the queries, cross-attention to the memory, feed-forward part."""

    def __init__(
        self,
        cross_attn: Mapping,
        self_attn: Mapping | None = {'type': 'SelfAttention'},
        ffn: Mapping | None = DEFAULT_FFN,
        embed_dims: int = 256,
        dropout: float = 0.1,
        layer: int = 0,
    ) -> None:
        ops = {'self_attn': self_attn, 'cross_attn': cross_attn}
        super().__init__(ops, ffn, embed_dims, dropout, layer)

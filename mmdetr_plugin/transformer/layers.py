"""Transformer layers: attention ops and a feed-forward part, each in a residual connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..attention.base import AttentionOp
from ..build import build_slot
from ..registry import MODELS
from ..structures import Memory, State
from .residuals import Residual

DEFAULT_FFN = {'type': 'FeedForward'}
DEFAULT_RESIDUAL = {'type': 'PostNorm'}


def run_layer(
    layer: nn.Module, state: State, memory: Memory, index: int, with_cp: bool = False
) -> State:
    """``layer(state, memory, index)``; ``with_cp``: the backward pass computes it a second time."""
    if not (with_cp and torch.is_grad_enabled()):
        return layer(state, memory, index)

    def call(content: Tensor) -> State:
        return layer(replace(state, content=content), memory, index)

    # The checkpoint restores the random state of the devices of its tensor arguments: pass one.
    return checkpoint(call, state.content, use_reentrant=False)


class TransformerLayer(nn.Module):
    """Attention ops one after the other, then the feed-forward part.

    Args:
        ops: configs of the ops by name, in the order in which they run; None leaves an op out.
        ffn: config of the feed-forward part; None leaves it out (DETR, table 4).
        residual: config of the residual connection around a step.
        residuals: configs for individual steps that differ, by the name of the op or ``ffn``.
        shared: values that parts of the layer may need, see :func:`~mmdetr_plugin.build.build_slot`.
    """

    def __init__(
        self,
        ops: Mapping[str, Mapping | None],
        ffn: Mapping | None,
        residual: Mapping,
        residuals: Mapping[str, Mapping],
        **shared: Any,
    ) -> None:
        super().__init__()
        self.op_names = tuple(name for name, cfg in ops.items() if cfg is not None)
        self.steps = (*self.op_names, *(('ffn',) if ffn is not None else ()))
        unknown = sorted(set(residuals) - set(self.steps))
        if unknown:
            raise ValueError(
                f'residuals must name steps of the layer, {list(self.steps)}, got {unknown}; rename '
                'them'
            )
        for name in self.op_names:
            op = build_slot(MODELS, ops[name], name, contract=AttentionOp, **shared)
            self.add_module(name, op)
        self.ffn = build_slot(MODELS, ffn, 'ffn', **shared)
        for name in self.steps:
            cfg = residuals.get(name, residual)
            out = build_slot(MODELS, cfg, f'residuals.{name}', contract=Residual, **shared)
            self.add_module(f'{name}_out', out)

    def ops(self) -> list[AttentionOp]:
        return [getattr(self, name) for name in self.op_names]

    def forward(self, state: State, memory: Memory, layer: int) -> State:
        for op in self.ops():
            state = op.prepare(state, memory, layer)
        for name in self.steps:
            residual: Residual = getattr(self, f'{name}_out')
            entering = replace(state, content=residual.enter(state.content))
            if name == 'ffn':
                update = self.ffn(entering.content)
            else:
                update = self.attend(name, entering, memory, layer)
            state = replace(state, content=residual(state.content, update))
        return state

    def attend(self, name: str, state: State, memory: Memory, layer: int) -> Tensor:
        """(B, N, C): the output of the op ``name``, to be added to the content."""
        return getattr(self, name)(state, memory, layer)


@MODELS.register_module()
class EncoderLayer(TransformerLayer):
    """Self-attention of the memory and a feed-forward part."""

    def __init__(
        self,
        self_attn: Mapping | None,
        ffn: Mapping | None = DEFAULT_FFN,
        residual: Mapping = DEFAULT_RESIDUAL,
        residuals: Mapping[str, Mapping] = {},
        embed_dims: int = 256,
        dropout: float = 0.1,
        layer: int = 0,
    ) -> None:
        shared = {'embed_dims': embed_dims, 'dropout': dropout, 'layer': layer}
        super().__init__({'self_attn': self_attn}, ffn, residual, residuals, **shared)


@MODELS.register_module()
class DecoderLayer(TransformerLayer):
    """Self-attention of the queries, cross-attention to the memory, feed-forward part."""

    def __init__(
        self,
        cross_attn: Mapping | None,
        self_attn: Mapping | None = {'type': 'SelfAttention'},
        ffn: Mapping | None = DEFAULT_FFN,
        residual: Mapping = DEFAULT_RESIDUAL,
        residuals: Mapping[str, Mapping] = {},
        embed_dims: int = 256,
        dropout: float = 0.1,
        layer: int = 0,
    ) -> None:
        ops = {'self_attn': self_attn, 'cross_attn': cross_attn}
        shared = {'embed_dims': embed_dims, 'dropout': dropout, 'layer': layer}
        super().__init__(ops, ffn, residual, residuals, **shared)

    def attend(self, name: str, state: State, memory: Memory, layer: int) -> Tensor:
        """As any layer does, but self-attention stays within groups of queries (Group DETR)."""
        if name != 'self_attn' or state.groups == 1:
            return super().attend(name, state, memory, layer)
        update = super().attend(name, state.grouped(), memory, layer)
        return update.unflatten(0, (-1, state.groups)).flatten(1, 2)

"""The encoder: layers that update the memory's tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from ..build import build_slot
from ..ops.mlp import MLP
from ..registry import MODELS
from ..structures import Memory, State
from .initialization import init_transformer_
from .layers import run_layer


@MODELS.register_module()
class Encoder(nn.Module):
    """``num_layers`` layers of one kind, for which the tokens are both queries and memory.

    Args:
        num_layers: 0 leaves the memory unchanged.
        layer: config of one layer; a callable ``layer(state, memory, index) -> State``.
        with_position: give the layers the position codes. False: only the decoder gets them (DETR,
            table 3); row-column attention still reads its own codes.
        position_scale: multiply the position codes in each layer by a perceptron of the tokens, which
            all layers share (DAB-DETR's code).
        norm: end with a norm of the tokens, as layers with ``PreNorm`` need (UP-DETR).
        with_cp: gradient checkpointing: keep only the input of each layer and compute the rest again in
            the backward pass. Less memory, more time, the same gradients.
    """

    def __init__(
        self,
        num_layers: int,
        layer: Mapping,
        with_position: bool = True,
        position_scale: bool = False,
        norm: bool = False,
        with_cp: bool = False,
        embed_dims: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if position_scale and not with_position:
            raise ValueError(
                'encoder.position_scale needs the position codes, got with_position=False; set it '
                'to True or leave out position_scale'
            )
        self.with_position = with_position
        self.with_cp = with_cp
        shared: dict[str, Any] = {'embed_dims': embed_dims, 'dropout': dropout}
        cfg = {'type': 'EncoderLayer', **layer}
        self.layers = nn.ModuleList(
            build_slot(MODELS, cfg, 'layer', layer=i, **shared) for i in range(num_layers)
        )
        self.position_scale = MLP(embed_dims, embed_dims, embed_dims, 2) if position_scale else None
        self.norm = nn.LayerNorm(embed_dims) if norm else nn.Identity()
        init_transformer_(self)

    def forward(self, memory: Memory) -> Memory:
        pos = memory.pos if self.with_position else None
        state = State(memory.tokens, pos, points=memory.centres(), self_mask=memory.key_mask)
        for i, layer in enumerate(self.layers):
            if self.position_scale is not None:
                state = replace(state, pos=memory.pos * self.position_scale(state.content))
            state = run_layer(layer, state, memory, i, self.with_cp)
            memory = replace(memory, tokens=state.content)
        return replace(memory, tokens=self.norm(memory.tokens))

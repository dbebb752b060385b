"""The decoder: layers that update the queries, with a prediction after each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..build import build_slot
from ..heads.base import Head
from ..registry import MODELS
from ..structures import Memory, Prediction, State
from .initialization import init_transformer_
from .layers import run_layer


@MODELS.register_module()
class Decoder(nn.Module):
    """``num_layers`` layers of one kind.

    Args:
        layer: config of one layer.
        query_position: a module ``position(state, memory, layer) -> State`` that computes the query
            position from the reference before each layer; None keeps the position of the queries.
        norm: normalise the content for the predictions, by one norm that the layers share.
        adapter: a module ``memory -> memory`` that changes the memory for all layers.
        eval_layer: index of the layer whose predictions are the detections; later layers serve
            training alone and are skipped when detecting (RT-DETR, section 4.4). None = the last.
        with_cp: see :class:`~mmdetr_plugin.transformer.encoder.Encoder`.

    Raises:
        ValueError: there is no layer ``eval_layer``.
    """

    def __init__(
        self,
        num_layers: int,
        layer: Mapping,
        query_position: Mapping | None = None,
        norm: bool = True,
        adapter: Mapping | None = None,
        eval_layer: int | None = None,
        with_cp: bool = False,
        embed_dims: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        if eval_layer is not None and not 0 <= eval_layer < num_layers:
            raise ValueError(
                f'decoder.eval_layer must be in [0, num_layers = {num_layers}), got {eval_layer}; '
                'change it'
            )
        self.eval_layer = num_layers - 1 if eval_layer is None else eval_layer
        self.with_cp = with_cp
        shared: dict[str, Any] = {'embed_dims': embed_dims, 'dropout': dropout}
        cfg = {'type': 'DecoderLayer', **layer}
        self.layers = nn.ModuleList(
            build_slot(MODELS, cfg, 'layer', layer=i, **shared) for i in range(num_layers)
        )
        self.query_position = build_slot(
            MODELS, query_position, 'query_position', num_layers=num_layers, **shared
        )
        self.norm = nn.LayerNorm(embed_dims) if norm else nn.Identity()
        self.adapter = build_slot(MODELS, adapter, 'adapter', **shared)
        init_transformer_(self)

    @property
    def reads_memory(self) -> bool:
        """Whether a layer has cross-attention; without, queries attend to each other alone (TSP)."""
        return any(getattr(layer, 'cross_attn', None) is not None for layer in self.layers)

    def forward(
        self, state: State, memory: Memory, head: Head, aux: bool = True
    ) -> list[Prediction]:
        """Predictions after every layer, or only after layer ``eval_layer`` if not ``aux``.

        The head may give several predictions for a layer; the last of them is the layer's own.

        Raises:
            ValueError: the content of the queries has not ``embed_dims`` channels.
        """
        if state.content.shape[-1] != self.embed_dims:
            raise ValueError(
                f'model.queries must give queries a content of embed_dims={self.embed_dims} channels, '
                f'got {state.content.shape[-1]}; change queries.embed_dims, or keep the branch that '
                'adds the others (DenoisingQueries with indicator=True)'
            )
        if self.adapter is not None:
            memory = self.adapter(memory)
        predictions: list[Prediction] = []
        count = len(self.layers) if aux else self.eval_layer + 1
        for i, layer in enumerate(self.layers[:count]):
            if self.query_position is not None:
                state = self.query_position(state, memory, i)
            state = run_layer(layer, state, memory, i, self.with_cp)
            predict = aux or i == self.eval_layer
            made, state = head(self.norm(state.content), state, i, predict=predict)
            predictions += made
        return predictions

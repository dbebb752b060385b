"""Records what the attention ops of a model weigh."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..compilation import Compiled
from ..structures import Memory, State
from .base import AttentionOp
from .records import Attention


class AttentionRecords(dict[str, Attention]):
    """The attention of each op in its last call, by the name of the op, e.g.
    ``decoder.layers.0.cross_attn``."""

    def decoder(self, layer: int = -1) -> Attention:
        """The attention of a decoder layer to the image.

        Raises:
            ValueError: there is no such layer, or the model has none that reads the image.
        """
        return self._layer('decoder', 'cross_attn', layer)

    def encoder(self, layer: int = -1) -> Attention:
        """The attention of the image to itself in an encoder layer.

        Raises:
            ValueError: as :meth:`decoder`.
        """
        return self._layer('encoder', 'self_attn', layer)

    def _layer(self, part: str, op: str, layer: int) -> Attention:
        names = [name for name in self if name.startswith(f'{part}.') and name.endswith(f'.{op}')]
        if not -len(names) <= layer < len(names):
            raise ValueError(
                f'layer must be one of the {len(names)} {part} layers whose {op} was recorded, got '
                f'{layer}; recorded are {list(self)}'
            )
        return self[names[layer]]


@contextmanager
def record_attention(model: nn.Module) -> Iterator[AttentionRecords]:
    """While open, every forward pass of ``model`` leaves its attention in the records.

    The weights are computed a second time, so a model that is not recorded has no extra work, and the
    outputs stay the same to the last bit. Dropout is left out of what is recorded. A compiled model
    runs without its compiled graphs meanwhile.

    >>> with record_attention(model) as records:
    ...     model(images, samples, mode='tensor')
    >>> records.decoder(-1).maps()  # (B, heads, N, H, W)
    """
    records = AttentionRecords()
    ops = [(name, op) for name, op in model.named_modules() if isinstance(op, AttentionOp)]

    def watch(name: str, op: AttentionOp) -> torch.utils.hooks.RemovableHandle:
        def look(_: nn.Module, arguments: tuple[State, Memory, int]) -> None:
            devices = [arguments[0].content.device] if arguments[0].content.is_cuda else []
            # Ops may draw random numbers: the call itself must draw the same ones afterwards.
            with torch.no_grad(), torch.random.fork_rng(devices):
                made = op.observe(*arguments)
            if made is not None:
                records[name] = made

        return op.register_forward_pre_hook(look)

    handles = [watch(*pair) for pair in ops]
    detectors: list[Any] = [part for part in model.modules() if hasattr(part, 'compiled')]
    compiled = [(part, part.compiled) for part in detectors]
    for part, graphs in compiled:
        part.compiled = Compiled(cells=graphs.cells)
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()
        for part, graphs in compiled:
            part.compiled = graphs

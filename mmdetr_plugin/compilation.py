"""``torch.compile`` for encoder and decoder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .structures import Memory, Prediction, State

if TYPE_CHECKING:
    from .detector import DETR


def encode(model: DETR, memory: Memory) -> Memory:
    """What the encoder of ``model`` makes of the embedded maps."""
    return memory if model.encoder is None else model.encoder(memory)


def decode(model: DETR, state: State, memory: Memory, aux: bool) -> list[Prediction]:
    """The predictions of all decoder layers, or without ``aux`` those of the last."""
    return model.decoder(state, memory, model.head, aux=aux)


class Compiled(NamedTuple):
    """:func:`encode` and :func:`decode`, compiled or not.

    They are functions of a model, not bound to one: a copy of it (EMA) runs its own weights.
    """

    encode: Callable[[DETR, Memory], Memory] = encode
    decode: Callable[[DETR, State, Memory, bool], list[Prediction]] = decode
    cells: int = 0
    """At the coarsest level, maps are padded to a multiple of this; 0 = no padding."""


def compile_transformer(options: Mapping[str, Any] | None, has_masks: bool) -> Compiled:
    """Compile :func:`encode` and :func:`decode`, unless ``options`` is None.

    Args:
        options: arguments of ``torch.compile``, and ``cells``, 0 by default.
        has_masks: whether a mask head reads the maps.

    Raises:
        ValueError: ``cells`` is not a whole number >= 0, or it is set together with a mask head.
    """
    if options is None:
        return Compiled()
    options = dict(options)
    cells = options.pop('cells', 0)
    if type(cells) is not int or cells < 0:
        raise ValueError(f'compile.cells must be 0 or a positive integer, got {cells!r}; change it')
    if cells and has_masks:
        raise ValueError(
            'compile.cells must be 0 with a mask head, which would combine padded maps with unpadded '
            f'maps of the backbone, got {cells}; leave it out'
        )
    known = inspect.signature(torch.compile).parameters
    unknown = sorted(set(options) - set(known) | {'model'} & set(options))
    if unknown:
        raise ValueError(
            f'model.compile must be arguments of torch.compile, {sorted(set(known) - {"model"})}, or '
            f'cells, got {unknown}; remove or rename them'
        )
    return Compiled(torch.compile(encode, **options), torch.compile(decode, **options), cells)

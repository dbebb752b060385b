"""``torch.compile`` for encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch


class Compiled(NamedTuple):
    """Functions of the class of a model, not of the model: a copy (EMA) then runs its own weights."""

    encode: Callable
    decode: Callable
    cells: int
    """What maps are padded to a multiple of, at the coarsest level; 0 = nothing."""


def compile_transformer(
    model: type, options: Mapping[str, Any] | None, has_masks: bool
) -> Compiled:
    """``encode`` and ``decode`` of the class ``model``, compiled unless ``options`` is None.

    Args:
        options: arguments of ``torch.compile``, and ``cells``, 0 by default.
        has_masks: whether a mask head reads the maps.

    Raises:
        ValueError: ``cells`` is not a whole number >= 0, or it is set together with a mask head.
    """
    if options is None:
        return Compiled(model.encode, model.decode, 0)
    options = dict(options)
    cells = options.pop('cells', 0)
    if type(cells) is not int or cells < 0:
        raise ValueError(f'compile.cells must be 0 or a positive integer, got {cells!r}; change it')
    if cells and has_masks:
        raise ValueError(
            'compile.cells must be 0 with a mask head, which would combine padded maps with unpadded '
            f'maps of the backbone, got {cells}; leave it out'
        )
    encode, decode = (torch.compile(part, **options) for part in (model.encode, model.decode))
    return Compiled(encode, decode, cells)

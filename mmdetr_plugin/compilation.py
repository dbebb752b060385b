"""``torch.compile`` for the part of the detector that follows the neck."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch


def compile_decode(
    decode: Callable, options: Mapping[str, Any] | None, masks: bool
) -> tuple[Callable | None, int]:
    """The compiled function, None if ``options`` is, and the multiple that maps are padded to.

    A function of the class, not of the model: a copy of the model (EMA) then runs its own weights.

    Args:
        options: arguments of ``torch.compile``, and ``cells``, 0 by default.
        masks: whether a mask head reads the maps.

    Raises:
        ValueError: ``cells`` is not a whole number, or there is a mask head too.
    """
    if options is None:
        return None, 0
    options = dict(options)
    cells = options.pop('cells', 0)
    if type(cells) is not int or cells < 0:
        raise ValueError(f'compile.cells must be 0 or a positive integer, got {cells!r}; change it')
    if cells and masks:
        raise ValueError(
            'compile.cells must be 0 with a mask head, which joins the padded maps with those of '
            f'the backbone, got {cells}; leave it out'
        )
    return torch.compile(decode, **options), cells

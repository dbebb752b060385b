"""``torch.compile`` for the part of the detector that follows the neck."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch


def compile_decode(
    decode: Callable, options: Mapping[str, Any] | None, masks: bool
) -> tuple[Callable | None, int]:
    """Compile ``decode``.

    Args:
        decode: a function of the class, not a bound method, so that a copy of the model (EMA) runs
            its own weights.
        options: arguments of ``torch.compile``, and ``cells``, 0 by default; None = do not compile.
        masks: whether the model has a mask head, which reads the maps.

    Returns:
        The compiled function, or None, and ``cells``: maps are padded to a multiple of it (0 = not).

    Raises:
        ValueError: ``cells`` is not a whole number >= 0, or it is set together with a mask head.
    """
    if options is None:
        return None, 0
    options = dict(options)
    cells = options.pop('cells', 0)
    if type(cells) is not int or cells < 0:
        raise ValueError(f'compile.cells must be 0 or a positive integer, got {cells!r}; change it')
    if cells and masks:
        raise ValueError(
            'compile.cells must be 0 with a mask head, which would combine padded maps with unpadded '
            f'maps of the backbone, got {cells}; leave it out'
        )
    return torch.compile(decode, **options), cells

"""Parts of a model that are not trained."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from torch import nn


def freeze_(model: nn.Module, names: Iterable[str]) -> None:
    """Take the parameters of submodules out of training, and their dropout and norms.

    To be called again after every ``model.train()``, which would wake the norms.

    Args:
        names: of submodules, e.g. ``backbone`` or ``decoder.layers.0``.

    Raises:
        ValueError: there is no such submodule.
    """
    for name in names:
        try:
            part = model.get_submodule(name)
        except AttributeError as error:
            known = [n for n, _ in model.named_modules() if n and n.count('.') <= name.count('.')]
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
            raise ValueError(
                f'freeze must name parts of the model, got {name!r}; did you mean one of {near}?'
            ) from error
        part.requires_grad_(False).eval()

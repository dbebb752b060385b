"""Excludes parts of a model from training."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from torch import nn


def freeze_(model: nn.Module, names: Iterable[str]) -> None:
    """Switch off the gradients of submodules and put them into evaluation mode.

    Call this again after every ``model.train()``, which puts norms and dropout into training mode.

    Args:
        model: the model that is changed.
        names: names of submodules, e.g. ``backbone``, ``decoder.layers.0``, ``decoder.layers.0-3``.

    Raises:
        ValueError: the model has no such submodule.
    """
    for name in (part for given in names for part in _spell_out(given)):
        try:
            part = model.get_submodule(name)
        except AttributeError as error:
            known = [n for n, _ in model.named_modules() if n and n.count('.') <= name.count('.')]
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
            raise ValueError(
                f'freeze must name parts of the model, got {name!r}; did you mean one of {near}?'
            ) from error
        part.requires_grad_(False).eval()


def _spell_out(name: str) -> list[str]:
    """Expand ``layers.0-2.ffn`` to ``layers.0.ffn``, ``layers.1.ffn``, ``layers.2.ffn``."""
    found = re.fullmatch(r'(.*\.)?(\d+)-(\d+)(\..*)?', name)
    if found is None:
        return [name]
    before, first, last, after = found.groups(default='')
    return [f'{before}{i}{after}' for i in range(int(first), int(last) + 1)]

"""Excludes parts of a model from training."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

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
                f'frozen_parts must name parts of the model, got {name!r}; did you mean one of {near}?'
            ) from error
        part.requires_grad_(False).eval()


def one_list(names: Sequence[str] | str, former: Sequence[str] | str = ()) -> tuple[str, ...]:
    """Names of parts as a tuple; a single name needs no list.

    Args:
        names: ``frozen_parts`` of a model.
        former: ``freeze``, as it was called.

    Raises:
        ValueError: both are given.
    """
    if names and former:
        raise ValueError(
            f'frozen parts must be named once, got frozen_parts={names!r} and freeze={former!r}, its '
            'former name; remove freeze'
        )
    names = names or former
    return (names,) if isinstance(names, str) else tuple(names)


def _spell_out(name: str) -> list[str]:
    """Expand ``layers.0-2.ffn`` to ``layers.0.ffn``, ``layers.1.ffn``, ``layers.2.ffn``."""
    found = re.fullmatch(r'(.*\.)?(\d+)-(\d+)(\..*)?', name)
    if found is None:
        return [name]
    before, first, last, after = found.groups(default='')
    return [f'{before}{i}{after}' for i in range(int(first), int(last) + 1)]

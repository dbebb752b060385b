"""Tensors in files that hold the rows of several of our tensors, one after the other.

A layout names such a share ``name[i/n]``: the i-th of n equal parts of the rows of ``name``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

SHARE = re.compile(r'(.*)\[(\d+)/(\d+)\]')


def share(name: str, index: int, number: int) -> str:
    """The name of part ``index`` of ``number`` parts of the tensor ``name``."""
    return f'{name}[{index}/{number}]'


def split_shares(state: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors of a file; those of which ``names`` has shares are divided into these.

    Raises:
        ValueError: a tensor does not have a multiple of n rows.
    """
    out = dict(state)
    for name, found in ((name, SHARE.fullmatch(name)) for name in names):
        if not found or found[1] not in state:
            continue
        whole, number = state[found[1]], int(found[3])
        if len(whole) % number:
            raise ValueError(
                f'{found[1]} must have as many rows for each of {number} groups of queries, got '
                f'{len(whole)} rows; use the number of groups that the checkpoint was made with'
            )
        out.pop(found[1], None)
        out[name] = whole.chunk(number)[int(found[2])]
    return out


def join_shares(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`split_shares`; all shares of a tensor must be present."""
    out: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    for name, value in state.items():
        found = SHARE.fullmatch(name)
        if found:
            parts.setdefault(found[1], {})[int(found[2])] = value
        else:
            out[name] = value
    return out | {name: torch.cat([x for _, x in sorted(p.items())]) for name, p in parts.items()}

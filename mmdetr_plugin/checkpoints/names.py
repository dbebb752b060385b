"""Names of a model's parameters in the files of other projects, by the tables of all its parts."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from torch import nn

from .layouts import Layout, get_layout

if TYPE_CHECKING:
    from ..detector import DETR

IGNORED = 'num_batches_tracked'
"""Counters of batch norms, which a published frozen norm does not have."""

Pieces = tuple[str, ...]
"""Names of the tensors that, joined along the first axis, are one of ours; usually a single name."""


def layout_names(
    model: DETR, layout: str, without: str | None = None
) -> dict[str, tuple[Pieces, ...]]:
    """Our parameter and buffer names -> their names in ``layout``, the first being the principal.

    Args:
        without: prefix of names to leave out.

    Raises:
        ValueError: the layout is not known, or has no such part.
    """
    table = get_layout(layout)
    root = table.root_of(model)
    trained = [name for name, p in model.named_parameters() if p.requires_grad and table.counters]
    counters = {name.removesuffix('weight') + IGNORED for name in trained}
    left_out = [] if table.origin == 'ours' else ['data_preprocessor.']
    left_out += [] if without is None else [without]
    return {
        name: tuple(tuple(_from_root(n, root) for n in each) for each in _names(model, name, table))
        for name in model.state_dict()
        if (name in counters or not name.endswith(IGNORED)) and not name.startswith(tuple(left_out))
    }


def official_names(model: DETR, layout: str) -> dict[str, tuple[str, ...]]:
    """As :func:`layout_names`, with the names of all pieces in one tuple."""
    table = layout_names(model, layout)
    return {n: tuple(piece for pieces in each for piece in pieces) for n, each in table.items()}


def part_names(part: nn.Module, layout: str) -> dict[str, str]:
    """Names in the ``state_dict`` of one part -> those that they have within it in ``layout``."""
    table = get_layout(layout)
    return {name: _names(part, name, table)[0][0] for name in part.state_dict()}


def _names(module: nn.Module, name: str, layout: Layout) -> tuple[Pieces, ...]:
    """Names of parameter ``name`` of ``module``, relative to the module or absolute."""
    table = layout.names_of(module)
    if table is None:
        raise ValueError(
            f"every part of the model must exist in a checkpoint of the layout '{layout.name}', but "
            f'{type(module).__name__} does not; use the config that the checkpoint was made with'
        )
    matches = [prefix for prefix in table if name.startswith(prefix)]
    if matches:
        prefix = max(matches, key=len)
        targets = table[prefix]
    elif '.' in name:
        prefix = name.split('.', 1)[0] + '.'
        targets = prefix
    else:
        return ((name,),)
    heads = targets if isinstance(targets, tuple) else (targets,)
    rest = name[len(prefix) :]
    child = module.get_submodule(prefix.rstrip('.')) if prefix.endswith('.') else None
    inner = _names(child, rest, layout) if child is not None and rest else ((rest,),)
    return tuple(
        tuple(_join(h, part) for h in (head if isinstance(head, list) else [head]) for part in each)
        for head, each in product(heads, inner)
    )


def _join(head: str, part: str) -> str:
    if part.startswith('../'):
        return part.removeprefix('../')
    return part if part.startswith('/') else head + part


def _from_root(name: str, root: str) -> str:
    return name[2:] if name.startswith('//') else root + name.removeprefix('/')

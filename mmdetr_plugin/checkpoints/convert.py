"""Published checkpoints to ours and back: renaming only, strict in both directions."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from .names import IGNORED, official_names

WRAPPERS = ('state_dict', 'model')
"""Entries under which checkpoints keep the weights."""

DETECTOR, MASK_HEAD = 'detr.', 'mask_head.'
"""Where published models with a mask head keep the detector; where ours keep the mask head."""

BACKBONES = ('backbone.0.body.', 'backbone.body.')
"""What published names of the backbone begin with (the second in Anchor DETR)."""


def unwrap(checkpoint: Mapping) -> dict[str, Tensor]:
    """Weights that are bare or under ``state_dict`` or ``model``, without DDP's prefix."""
    for key in WRAPPERS:
        if isinstance(checkpoint.get(key), Mapping):
            return unwrap(checkpoint[key])
    return {name.removeprefix('module.'): value for name, value in checkpoint.items()}


def is_official(names: Iterable[str]) -> bool:
    """Whether these are names of a published checkpoint of the family (and not ours)."""
    return any(name.removeprefix(DETECTOR).startswith(BACKBONES) for name in names)


def from_official(
    state: Mapping[str, Tensor], model: nn.Module, masks: bool = True
) -> dict[str, Tensor]:
    """Weights in the official layout of ``model`` -> our names.

    Buffers and frozen parameters may be absent all together: a dictionary of gradients has none.
    Without ``masks`` a file of the detector alone serves a model that has a mask head too, and the
    other way round.

    Raises:
        ValueError: a parameter is missing, unmapped or of another shape; the message lists them
            with the nearest names.
    """
    table = official_names(model, model.layout)
    if not masks:
        state, table = _without_masks(state, table, getattr(model, 'official_root', ''))
    known = {theirs for names in table.values() for theirs in names}
    sources = {ours: next((n for n in names if n in state), None) for ours, names in table.items()}
    trainable = _trainable(model)
    if not any(sources[ours] for ours in table if ours not in trainable):
        sources = {ours: sources[ours] for ours in table if ours in trainable}
    missing = [table[ours][0] for ours, theirs in sources.items() if theirs is None]
    unmapped = [name for name in state if name not in known and not name.endswith(IGNORED)]
    _check_names(missing, unmapped, known, state, f"'{model.layout}' checkpoint")
    target = model.state_dict()
    out = {ours: state[theirs] for ours, theirs in sources.items()}
    _check_shapes({table[n][0]: (tuple(out[n].shape), tuple(target[n].shape)) for n in out})
    if len(out) == len(table):
        out |= {name: torch.zeros_like(t) for name, t in target.items() if name.endswith(IGNORED)}
    return out


def _without_masks(
    state: Mapping[str, Tensor], table: dict[str, tuple[str, ...]], root: str
) -> tuple[Mapping[str, Tensor], dict[str, tuple[str, ...]]]:
    """The file and the names, less the mask head where the other one has none."""
    wrapped = any(name.startswith(DETECTOR) for name in state)
    if wrapped and not root:
        state = {n.removeprefix(DETECTOR): v for n, v in state.items() if n.startswith(DETECTOR)}
    elif root and not wrapped:
        state = {root + name: value for name, value in state.items()}
        table = {ours: names for ours, names in table.items() if not ours.startswith(MASK_HEAD)}
    return state, table


def to_official(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Our weights -> the official layout of ``model``, every alias included.

    Buffers and frozen parameters may be absent from ``state`` (a dictionary of gradients has none).

    Raises:
        ValueError: a trainable parameter is missing, or ``state`` has an entry the model does not.
    """
    table = official_names(model, model.layout)
    trainable = _trainable(model)
    missing = [name for name in table if name in trainable and name not in state]
    unmapped = [
        name
        for name in state
        if name not in table and not name.endswith(IGNORED) and not name.startswith('data_prep')
    ]
    _check_names(missing, unmapped, set(table), state, 'checkpoint of this model')
    return {n: state[ours] for ours, names in table.items() if ours in state for n in names}


def _trainable(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def _check_names(
    missing: list[str], unmapped: list[str], known: set[str], state: Iterable[str], what: str
) -> None:
    if not missing and not unmapped:
        return
    lines = [f'the file must be a {what} of the config, but the names do not agree:']
    for title, names, pool in (('missing', missing, state), ('not of this model', unmapped, known)):
        for name in names[:5]:
            near = difflib.get_close_matches(name, list(pool), n=2, cutoff=0.6)
            lines.append(f'  {title}: {name}' + (f' (nearest: {", ".join(near)})' if near else ''))
        if len(names) > 5:
            lines.append(f'  {title}: {len(names) - 5} more')
    lines.append('use the config that this checkpoint was made with')
    raise ValueError('\n'.join(lines))


def _check_shapes(shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    wrong = [f'  {name}: file {a}, model {b}' for name, (a, b) in shapes.items() if a != b]
    if wrong:
        raise ValueError(
            'tensors must have the shapes of the model, but differ:\n'
            + '\n'.join(wrong[:8])
            + '\nset model.num_classes and the widths of the config to those of the checkpoint; '
            'to start another number of classes from these weights, convert the file first (tools/'
            'convert_checkpoint.py) and name the result as load_from: its class rows are left out'
        )

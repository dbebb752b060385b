"""Checkpoints of other projects to ours and back: renaming only, strict in both directions."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from .layouts import get_layout, hf_layout, recognise
from .names import IGNORED, Pieces, layout_names
from .rows import row_table
from .shares import join_shares, split_shares

if TYPE_CHECKING:
    from ..detector import DETR

WRAPPERS = ('ema', 'state_dict', 'model', 'module')
"""Entries under which checkpoints keep the weights, averaged ones (``ema.module``) first."""

MASK_HEAD = 'mask_head.'
MASK_HEADS = (MASK_HEAD, 'bbox_attention.')
"""What names of mask heads begin with, in all layouts."""


def unwrap(checkpoint: Mapping) -> dict[str, Tensor]:
    """The weights of a checkpoint, which may have them under one of ``WRAPPERS``; without the prefix
    that DDP adds. Averaged weights are preferred to those that were trained."""
    for key in WRAPPERS:
        if isinstance(checkpoint.get(key), Mapping):
            return unwrap(checkpoint[key])
    return {name.removeprefix('module.'): value for name, value in checkpoint.items()}


def to_ours(
    weights: Mapping, model: DETR, masks: bool = True
) -> tuple[dict[str, Tensor], str, list[str]]:
    """Weights of any known layout -> weights by our names, those of ``model``.

    Either all buffers and frozen parameters are present or none are, as in a dictionary of gradients.
    The numbers of classes and queries are those of the file.

    Args:
        weights: weights by name, or a checkpoint that has them under ``state_dict`` or ``model``.
        masks: whether file and model must agree in having a mask head.

    Returns:
        The weights; the origin of the file's layout (``ours``, ``official``, ``mmdet``, ``hf``); our
        names of the tensors that the layout lacks, which were filled with zeros.

    Raises:
        ValueError: the layout is not known; a parameter is missing, unmapped or of another shape; the
            message lists them with the nearest names.
    """
    state = unwrap(weights)
    target, rows = model.state_dict(), row_table(model)
    layout = get_layout(recognise(state, model.layout, target))
    if layout.from_file is not None:
        state = dict(layout.from_file(state))
    out, filled = _rename(state, model, layout.name, masks)
    # The numbers of classes and queries may differ here.
    _check_shapes({n: tuple(tuple(s[n].shape[n in rows :]) for s in (out, target)) for n in out})
    return out, layout.origin, filled


def from_official(
    state: Mapping[str, Tensor], model: DETR, masks: bool = True
) -> dict[str, Tensor]:
    """Weights in the official layout of ``model``, and of its shapes -> our names.

    Raises:
        ValueError: as :func:`to_ours`.
    """
    from_file = get_layout(model.layout).from_file
    if from_file is not None:
        state = from_file(state)
    out, _ = _rename(state, model, model.layout, masks)
    target = model.state_dict()
    _check_shapes({n: (tuple(out[n].shape), tuple(target[n].shape)) for n in out})
    return out


def _rename(
    state: Mapping[str, Tensor], model: DETR, layout: str, masks: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by our names, and the names that were filled."""
    constants = get_layout(layout).constants_of(model)
    state = {name: value for name, value in state.items() if name not in constants}
    state, without = _fit_masks(state, model, layout, masks)
    table = layout_names(model, layout, without)
    known = {n for sources in table.values() for names in sources for n in names}
    state = split_shares(state, known)
    unused = only_for_pretraining(state, known, layout)
    state = {name: value for name, value in state.items() if name not in unused}
    absent = {
        ours: [n for names in sources for n in names if n not in state]
        for ours, sources in table.items()
        if not unused or not sources[0][0].startswith(get_layout(layout).relearnt)
    }
    # Counters are not worth an error: older files lack them.
    absent = {n: names for n, names in absent.items() if not (names and n.endswith(IGNORED))}
    every, trainable = len(absent), _trainable(model)
    if all(names for ours, names in absent.items() if ours not in trainable):
        absent = {ours: names for ours, names in absent.items() if ours in trainable}
    lacks = get_layout(layout).lacks
    may_lack = set() if lacks is None else lacks(table)
    filled = [n for n, names in absent.items() if names and n in may_lack]
    missing = [name for n, names in absent.items() if n not in filled for name in names]
    unmapped = [name for name in state if name not in known and not name.endswith(IGNORED)]
    _check_names(missing, unmapped, known, state, _described(layout))
    target = model.state_dict()
    out = {ours: _join(state, table[ours]) for ours in absent if ours not in filled}
    short, rows = get_layout(layout).short, row_table(model)
    for ours in (n for n in out if table[n][0][0] in short):
        out[ours] = F.pad(out[ours], (0, 0, 0, rows[ours].extra))
    out |= {ours: torch.zeros_like(target[ours]) for ours in filled}
    if len(absent) == every:
        counters = [name for name in target if name.endswith(IGNORED) and name not in out]
        out |= {name: state.get(name, torch.zeros_like(target[name])) for name in counters}
    return {name: out[name] for name in target if name in out}, filled


def only_for_pretraining(state: Iterable[str], known: Collection[str], layout: str) -> set[str]:
    """Names in a file of a pre-training without labels that a model without its parts does not use.

    Args:
        state: names in the file.
        known: names of the model's tensors in the layout.
    """
    table = get_layout(layout)
    alone = {name for name in state if name.startswith(table.pretraining)}
    if not alone or any(name.startswith(table.pretraining) for name in known):
        return set()
    return alone | {name for name in state if name.startswith(table.relearnt)}


def unused_names(weights: Mapping[str, Tensor], model: DETR) -> set[str]:
    """Names of the weights, in a file of a pre-training without labels, that ``model`` does not use."""
    layout = recognise(weights, model.layout, model.state_dict())
    names = layout_names(model, layout)
    known = {n for sources in names.values() for each in sources for n in each}
    return only_for_pretraining(weights, known, layout)


def _fit_masks(
    state: Mapping[str, Tensor], model: DETR, layout: str, masks: bool
) -> tuple[Mapping[str, Tensor], str | None]:
    """The file, less a mask head that the model does not have, with the detector where the model's
    table has it; and the prefix of the model's own mask head if the file has none."""
    wanted = model.mask_head is not None
    if masks or wanted == any(name.startswith(MASK_HEADS) for name in state):
        return state, None
    wrapper = get_layout(layout).wrapper
    if wanted:
        return {wrapper + name: value for name, value in state.items()}, MASK_HEAD
    others = (name for name in state if not name.startswith(MASK_HEADS))
    return {name.removeprefix(wrapper): state[name] for name in others}, None


def _join(state: Mapping[str, Tensor], sources: tuple[Pieces, ...]) -> Tensor:
    """The tensor of which all ``sources`` are names, from its pieces."""
    for first, other in ((sources[0], names) for names in sources[1:]):
        for a, b in zip(first, other, strict=True):
            if state[a] is not state[b] and not torch.equal(state[a], state[b]):
                raise ValueError(
                    f'{a} and {b} must be equal, being one tensor in the model, but differ; use a '
                    'config with heads of their own for the layers, as deformable_detr_refine_r50.py '
                    'or, for DINO, dino_r50_mmdet.py'
                )
    pieces = [state[name] for name in sources[0]]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def to_official(state: Mapping[str, Tensor], model: DETR) -> dict[str, Tensor]:
    """Our weights -> the official layout of ``model``, every alias included.

    Buffers and frozen parameters may be absent from ``state`` (a dictionary of gradients has none).

    Raises:
        ValueError: a trainable parameter is missing, or ``state`` has an entry the model does not.
    """
    return _write(state, model, model.layout)


def to_hf(state: Mapping[str, Tensor], model: DETR) -> dict[str, Tensor]:
    """Our weights -> the names of transformers 5.23, as :func:`to_official`; the ResNet is timm's.

    Raises:
        ValueError: also if transformers has no such model.
    """
    return _write(state, model, hf_layout(model))


def _write(state: Mapping[str, Tensor], model: DETR, layout: str) -> dict[str, Tensor]:
    table = layout_names(model, layout)
    trainable = _trainable(model)
    missing = [name for name in table if name in trainable and name not in state]
    unmapped = [
        name
        for name in state
        if name not in table and not name.endswith(IGNORED) and not name.startswith('data_prep')
    ]
    _check_names(missing, unmapped, set(table), state, 'checkpoint of this model')
    out: dict[str, Tensor] = {}
    for ours, sources in table.items():
        for names in sources if ours in state else ():
            pieces = (state[ours],) if len(names) == 1 else state[ours].chunk(len(names))
            out.update(zip(names, pieces, strict=True))
    out = join_shares(out)
    return {**out, **get_layout(layout).constants_of(model)} if set(table) <= set(state) else out


def _trainable(model: DETR) -> set[str]:
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


def _described(layout: str) -> str:
    return 'checkpoint of this model' if layout == 'ours' else f"'{layout}' checkpoint"


def _check_shapes(shapes: Mapping[str, tuple[tuple[int, ...], ...]]) -> None:
    wrong = [f'  {name}: file {a}, model {b}' for name, (a, b) in shapes.items() if a != b]
    if wrong:
        raise ValueError(
            'tensors must have the shapes of the model, but differ:\n'
            + '\n'.join(wrong[:8])
            + '\nset model.num_classes and the widths of the config to those of the checkpoint; '
            'only the numbers of classes and queries may differ, if training starts from load_from'
        )

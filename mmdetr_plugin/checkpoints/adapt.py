"""Weights of one model for another of the same shape but for its classes and queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from .class_names import match_classes
from .names import IGNORED
from .report import Report, listing
from .rows import ANY_CLASS, CLASSES, QUERIES, Rows, row_table

NOISE = 0.1
"""Deviation of a copied query from its source, over that of all entries of the parameter."""


def adapt(
    state: Mapping[str, Tensor],
    model: nn.Module,
    source: Sequence[str | None] | None = None,
    target: Sequence[str | None] | None = None,
    start: bool = True,
    filled: Iterable[str] = (),
) -> tuple[dict[str, Tensor], Report]:
    """Weights by our names, as :func:`to_ours` gives them -> the shapes of ``model``, and a report.

    Class rows go by name where both sides have names; without names equal numbers of rows keep
    their order, and all others begin with the values that ``model`` has now, its initial ones. Of
    the queries the first are kept; further ones are copies with noise, the same in every process.

    Args:
        source, target: names of the classes of ``state`` and ``model``; None = not known. 80, 91, 133
            and 250 rows without names are COCO's.
        start: training starts from the result. False: it is used as it is, so that every row of
            the model must come from ``state``.
        filled: names in ``state`` that did not come from a file.

    Raises:
        ValueError: names and class rows differ in number; a row has no source although no training
            starts.
    """
    own, table = model.state_dict(), row_table(model)
    report, filled = Report(), set(filled)
    given, wanted = _count(state, table), _count(own, table)
    if not start and source is None and given == wanted:
        target = None  # whatever they are called, they are its classes
    classes, report.notes = match_classes(given, wanted, source, target)
    if not start:
        _check_exact(state, own, table, classes, target)
    generator = torch.Generator().manual_seed(0)
    out = {}
    for name, value in state.items():
        kept = 'filled' if name in filled else 'loaded'
        out[name] = value
        if name not in table:
            report.add(name, kept, 0 if name.endswith(IGNORED) else value.numel())
            continue
        fresh = own[name]
        choice = _choose(table[name], classes, len(value), len(fresh))
        if choice == list(range(len(value))):
            report.add(name, kept, value.numel())
        elif table[name].of == QUERIES:
            out[name] = _resize(value, len(fresh), generator)
            report.add(name, 'mapped', fresh.numel())
            report.notes.append(_query_note(name, len(value), len(fresh)))
        else:
            out[name] = _pick(value, fresh, choice)
            new = choice.count(None) * fresh[0].numel()
            report.add(name, 'mapped', fresh.numel() - new)
            report.add(name, 're-initialised', new)
    for name in own:
        if name not in state and not name.endswith(IGNORED):
            report.add(name, 're-initialised', own[name].numel())
            out |= {name: own[name]} if start else {}
    return out, report


def _count(state: Mapping[str, Tensor], table: Mapping[str, Rows]) -> int:
    """Number of classes.

    Raises:
        ValueError: parameters disagree.
    """
    counts = {
        n: len(state[n]) - r.extra for n, r in table.items() if n in state and r.of == CLASSES
    }
    if len(set(counts.values())) != 1:
        raise ValueError(
            'all class rows of a checkpoint must be of the same classes, got '
            f'{listing([f"{name}: {count}" for name, count in counts.items()])}; '
            'take the file as its training wrote it'
        )
    return next(iter(counts.values()))


def _choose(rows: Rows, classes: list[int | None], given: int, wanted: int) -> list[int | None]:
    """The source's row for each row of a parameter."""
    if rows.of == QUERIES:
        return [i % given for i in range(wanted)]
    given, wanted = given - rows.extra, wanted - rows.extra
    if rows.of == ANY_CLASS:
        classes = [i if i < given else None for i in range(wanted)]
    return [*classes, *range(given, given + rows.extra)]


def _pick(value: Tensor, fresh: Tensor, choice: list[int | None]) -> Tensor:
    """Rows of ``value``, and those of ``fresh`` where there is no choice."""
    out = fresh.detach().to(value, copy=True)
    chosen = torch.tensor([row is not None for row in choice], device=value.device)
    out[chosen] = value[[row for row in choice if row is not None]]
    return out


def _resize(value: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """(N, ...) -> (number, ...): the first rows; beyond N they are repeated with noise."""
    out = value[torch.arange(number, device=value.device) % len(value)]
    copies = out[len(value) :]
    scale = NOISE * value.float().std()
    copies += (scale * torch.randn(copies.shape, generator=generator).to(scale)).to(value)
    return out


def _query_note(name: str, given: int, wanted: int) -> str:
    rest = f'; the other {wanted - given} are copies with noise' if wanted > given else ''
    return f'{name}: {given} rows in the checkpoint, {wanted} here: the first are kept{rest}'


def _check_exact(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    table: Mapping[str, Rows],
    classes: list[int | None],
    target: Sequence[str | None] | None,
) -> None:
    """Where no training follows, every class and query must come from the file."""
    what = ''
    if None in classes:
        new = [i for i, row in enumerate(classes) if row is None]
        names = listing([target[i] for i in new] if target else [str(i) for i in new])
        what = f'{len(new)} of {len(classes)} classes of the model ({names}) have no row in it'
    for name, rows in table.items():
        if name in state and rows.of == QUERIES and len(state[name]) != len(own[name]):
            what = f'{name} has {len(state[name])} rows in it, {len(own[name])} in the model'
    if what:
        raise ValueError(
            'a checkpoint must have the classes and queries of the model where no training starts from '
            f'it (evaluation, resuming), but {what}; use the config that it was made with. To train on '
            "from it, set load_from and custom_hooks=[dict(type='mmdetr_plugin.CheckpointAdapter')], "
            'which maps the rows and starts missing ones anew'
        )

"""Adapts weights to a model with other classes or another number of queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from .class_names import match_classes
from .names import IGNORED
from .plan import FILLED, INITIAL, LOADED, MAPPED, Choice, Plan, Step, listing
from .rows import ANY_CLASS, CLASSES, QUERIES, Rows, row_table


def adapt(
    state: Mapping[str, Tensor],
    model: nn.Module,
    source: Sequence[str | None] | None = None,
    target: Sequence[str | None] | None = None,
    start: bool = True,
    filled: Iterable[str] = (),
) -> tuple[dict[str, Tensor], Plan]:
    """Weights by our names, as :func:`to_ours` gives them, in the shapes of ``model``; and the plan.

    The arguments are those of :func:`make_plan`.
    """
    plan = make_plan(state, model, source, target, start, filled)
    return plan.carry_out(state, model.state_dict()), plan


def make_plan(
    state: Mapping[str, Tensor],
    model: nn.Module,
    source: Sequence[str | None] | None = None,
    target: Sequence[str | None] | None = None,
    start: bool = True,
    filled: Iterable[str] = (),
) -> Plan:
    """Plan how weights by our names are loaded into ``model``, which may differ in classes and queries.

    Class rows are matched by name where both sides have names. Without names, rows keep their order if
    their numbers are equal; otherwise they stay at the initial values that ``model`` has now. The first
    queries are kept; additional ones are copies with noise, the same in every process.

    Args:
        source, target: names of the classes of ``state`` and ``model``; None = not known. 80, 91, 133
            and 250 rows without names are taken for COCO's.
        start: whether training starts from the result. False: the result is evaluated or resumed, so
            every row of the model must come from ``state``.
        filled: names in ``state`` that did not come from a file.

    Raises:
        ValueError: names and class rows differ in number; a row has no source although no training
            starts.
    """
    own, table = model.state_dict(), row_table(model)
    plan, filled = Plan(start=start), set(filled)
    classes: list[int | None] = []
    given, wanted = count_classes(state, table), count_classes(own, table)
    if given is not None and wanted is not None:
        if not start and source is None and given == wanted:
            target = None  # whatever they are called, they are its classes
        classes, plan.notes = match_classes(given, wanted, source, target)
    elif source is not None and target is not None and list(source) != list(target):
        plan.notes.append('classes: no part of the model says which rows are classes, all are kept')
    if not start:
        _check_exact(state, own, table, classes, target)
    for name, value in state.items():
        kept = FILLED if name in filled else LOADED
        fresh = own[name]
        rows = table.get(name)
        choice = None if rows is None else _choose(rows, classes, len(value), len(fresh))
        if choice is None or choice == tuple(range(len(value))):
            plan.add(name, kept, 0 if name.endswith(IGNORED) else value.numel())
        elif rows is not None and rows.of == QUERIES:
            plan.steps.append(Step(name, {MAPPED: fresh.numel()}, choice, noise=True))
            plan.notes.append(_query_note(name, len(value), len(fresh)))
        else:
            new = choice.count(None) * fresh[0].numel()
            numbers = {MAPPED: fresh.numel() - new, INITIAL: new}
            plan.steps.append(Step(name, numbers, choice))
    for name in own:
        if name not in state and not name.endswith(IGNORED):
            plan.add(name, INITIAL, own[name].numel())
    return plan


def count_classes(state: Mapping[str, Tensor], table: Mapping[str, Rows]) -> int | None:
    """Number of classes in the class rows of ``state``; None if ``table`` names no class rows.

    Raises:
        ValueError: parameters disagree.
    """
    counts = {
        n: len(state[n]) - r.extra for n, r in table.items() if n in state and r.of == CLASSES
    }
    if len(set(counts.values())) > 1:
        raise ValueError(
            'all class rows of a checkpoint must be of the same classes, got '
            f'{listing([f"{name}: {count}" for name, count in counts.items()])}; '
            'take the file as its training wrote it'
        )
    return next(iter(counts.values()), None)


def _choose(rows: Rows, classes: list[int | None], given: int, wanted: int) -> Choice:
    """The source's row for each row of a parameter."""
    if rows.of == QUERIES:
        return tuple(i % given for i in range(wanted))
    given, wanted = given - rows.extra, wanted - rows.extra
    if rows.of == ANY_CLASS:
        classes = [i if i < given else None for i in range(wanted)]
    return (*classes, *range(given, given + rows.extra))


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
    """Without training afterwards, every class and query must come from the file."""
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
            'for evaluation and resuming, a checkpoint must have the classes and queries of the '
            f'model, but {what}; use the config that it was made with. To train from it, set '
            "load_from and custom_hooks=[dict(type='mmdetr_plugin.CheckpointAdapter')], which maps the "
            'rows and re-initialises missing ones'
        )

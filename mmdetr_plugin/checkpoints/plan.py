"""What becomes of the tensors of a checkpoint: decided once, then carried out and reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from terminaltables import AsciiTable
from torch import Tensor

LOADED, MAPPED, INITIAL, FILLED, SKIPPED = KINDS = (
    'loaded',
    'mapped',
    're-initialised',
    'filled',
    'skipped',
)
"""What may happen to a number:

* loaded: it is as in the file;
* mapped: it stands in another row than in the file, or is a copy;
* re-initialised: it has the model's initial value, as the file has none;
* filled: the layout of the file is known to lack it;
* skipped: it is in the file, of a part that the model does not have.
"""

NOISE = 0.1
"""Deviation of a copied row from its source, over that of all entries of the parameter."""

SHOWN = 8

Choice = tuple['int | None', ...]
"""The row of the file for each row of a parameter, None = the model's initial one."""


@dataclass(frozen=True)
class Step:
    """What becomes of one tensor.

    Attributes:
        name: our name of it.
        numbers: kinds -> how many of its numbers are of that kind; a tensor may have two.
        rows: where its rows come from, if not all are loaded as they are.
        noise: rows that were taken before are copies, which get noise.
    """

    name: str
    numbers: Mapping[str, int]
    rows: Choice | None = None
    noise: bool = False

    def carry_out(self, given: Tensor, own: Tensor, generator: torch.Generator) -> Tensor:
        """The tensor, made of that of the file and the model's own."""
        if self.rows is None:
            return given
        chosen = [row is not None for row in self.rows]
        out = own.detach().to(given, copy=True)
        out[torch.tensor(chosen, device=out.device)] = given[
            [r for r in self.rows if r is not None]
        ]
        if self.noise:
            copies = out[len(given) :]
            scale = NOISE * given.float().std()
            copies += (scale * torch.randn(copies.shape, generator=generator).to(scale)).to(given)
        return out


@dataclass
class Plan:
    """What becomes of all tensors of a checkpoint and a model, and what must be said besides.

    Attributes:
        steps: one for each tensor.
        notes: remarks for the user.
        start: training starts from the result, so that what the file lacks has its initial values;
            otherwise it is left out.
    """

    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    start: bool = True

    def add(self, name: str, kind: str, numbers: int) -> None:
        """Add a tensor all of whose ``numbers`` are of one kind."""
        self.steps.append(Step(name, {kind: numbers}))

    def carry_out(
        self, state: Mapping[str, Tensor], own: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The tensors to load.

        Args:
            state: tensors of the file by our names.
            own: those of the model.
        """
        generator = torch.Generator().manual_seed(0)  # the same copies in every process
        out = {}
        for step in self.steps:
            if step.name in state:
                name = step.name
                out[name] = step.carry_out(state[name], own[name], generator)
            elif self.start and INITIAL in step.numbers:
                out[step.name] = own[step.name]
        return out

    @property
    def counts(self) -> dict[str, dict[str, list[int]]]:
        """Part of the model -> kind -> tensors, and numbers in them."""
        counts: dict[str, dict[str, list[int]]] = {}
        for step in self.steps:
            for kind, numbers in step.numbers.items():
                if numbers:
                    kinds = counts.setdefault(step.name.split('.')[0], {})
                    count = kinds.setdefault(kind, [0, 0])
                    count[0] += 1
                    count[1] += numbers
        return counts

    def total(self, kind: str) -> tuple[int, int]:
        """Tensors and numbers of one kind."""
        counts = [part[kind] for part in self.counts.values() if kind in part]
        return sum(c[0] for c in counts), sum(c[1] for c in counts)

    def table(self) -> str:
        """Tensors and, in brackets, their numbers, of each part and kind; below it the notes."""
        rows = [['part', *KINDS]]
        for part, kinds in self.counts.items():
            rows.append([part, *(_cell(kinds.get(kind, (0, 0))) for kind in KINDS)])
        rows.append(['total', *(_cell(self.total(kind)) for kind in KINDS)])
        table = AsciiTable(rows)
        table.inner_footing_row_border = True
        table.justify_columns = dict.fromkeys(range(1, len(rows[0])), 'right')
        return '\n'.join(['tensors (and the numbers in them)', table.table, *self.notes])


def _cell(count: Sequence[int]) -> str:
    tensors, numbers = count
    return f'{tensors:,} ({numbers:,})' if tensors else ''


def listing(names: Sequence[str | None]) -> str:
    """The first of the names, and how many more there are."""
    shown = ', '.join('unused' if name is None else name for name in names[:SHOWN])
    return shown + (f' and {len(names) - SHOWN} more' if len(names) > SHOWN else '')

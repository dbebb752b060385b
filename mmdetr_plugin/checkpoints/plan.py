"""How the tensors of a checkpoint become those of a model: one plan, carried out and reported."""

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
"""What may happen to the numbers of a tensor:

* loaded: copied from the file;
* mapped: copied from another row of the file, possibly more than once;
* re-initialised: left at the model's initial values, as the file has none;
* filled: set to zero, as files of this layout lack them;
* skipped: not used, as the model has no such part.
"""

NOISE = 0.1
"""Standard deviation of the noise on copied rows, relative to that of the parameter's entries."""

SHOWN = 8

Choice = tuple['int | None', ...]
"""The row of the file for each row of a parameter, None = the model's initial one."""


@dataclass(frozen=True)
class Step:
    """The plan for one tensor.

    Attributes:
        name: our name of it.
        numbers: for each kind, how many of its numbers are of that kind; a tensor may have two kinds.
        rows: where its rows come from; None = it is loaded unchanged.
        noise: whether rows beyond those of the file, which are copies, get noise.
    """

    name: str
    numbers: Mapping[str, int]
    rows: Choice | None = None
    noise: bool = False

    def carry_out(self, given: Tensor, own: Tensor, generator: torch.Generator) -> Tensor:
        """The tensor to load, from that of the file and the model's own."""
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
    """The plan for all tensors of a checkpoint and a model.

    Attributes:
        steps: one for each tensor.
        notes: remarks for the user.
        start: whether training starts from the result: tensors that the file lacks then have their
            initial values; otherwise they are left out.
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

    def check_complete(self) -> None:
        """Raise ValueError if a part of the model has no weights, and no training starts."""
        parts = [part for part, kinds in self.counts.items() if INITIAL in kinds]
        if parts and not self.start:
            raise ValueError(
                f'a checkpoint that is evaluated must have every part of the model, got no {parts}; '
                'train them first, or use the config that it was made with'
            )

    def table(self) -> str:
        """A table of parts and kinds: tensors and, in brackets, the numbers in them; then the notes."""
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

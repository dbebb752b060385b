"""What became of the tensors of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from terminaltables import AsciiTable

KINDS = ('loaded', 'mapped', 're-initialised', 'filled', 'skipped')
SHOWN = 8


class Report:
    """Counts per part of the model, and what must be said besides.

    * loaded: as they are in the file;
    * mapped: rows that stand elsewhere than in the file, or are copies;
    * re-initialised: the model's initial values, as the file has none;
    * filled: what the layout of the file is known to lack;
    * skipped: of parts that the model does not have.

    A tensor with rows of two kinds is a tensor of both; a number has one kind.
    """

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, list[int]]] = {}
        self.notes: list[str] = []

    def add(self, name: str, kind: str, numbers: int) -> None:
        """Count the tensor ``name``, of which so many ``numbers`` are of this kind."""
        if numbers:
            count = self.counts.setdefault(name.split('.')[0], {}).setdefault(kind, [0, 0])
            count[0] += 1
            count[1] += numbers

    def total(self, kind: str) -> tuple[int, int]:
        """Tensors and numbers of one kind."""
        counts = [part[kind] for part in self.counts.values() if kind in part]
        return sum(c[0] for c in counts), sum(c[1] for c in counts)

    def table(self) -> str:
        """Tensors and, in brackets, their numbers, of each part and kind."""
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

"""The meaning of the rows of parameters whose number of rows may differ from that in a checkpoint.

Every part declares its own: ``part.rows()`` maps prefixes of its parameters to :class:`Rows`.
Parameters that no part declares must have the shape that they have in the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

CLASSES, ANY_CLASS, QUERIES = 'classes', 'any class', 'queries'


@dataclass(frozen=True)
class Rows:
    """The meaning of the first dimension of parameters.

    Attributes:
        of: ``classes``: one row per class; ``any class``: row 0 is for objects of any class, the others
            are never positive; ``queries``: one row per point, box, pattern or query.
        extra: number of rows at the end that mean the same in every model, e.g. no object.
    """

    of: str
    extra: int = 0


def row_table(model: nn.Module) -> dict[str, Rows]:
    """Names of parameters of ``model`` -> the meaning of their rows, as its parts declare it."""
    table: dict[str, Rows] = {}
    names = list(model.state_dict())
    for path, part in model.named_modules():
        declare = getattr(type(part), 'rows', None)  # not a submodule of that name
        if declare is None:
            continue
        place = f'{path}.' if path else ''
        for prefix, rows in declare(part).items():
            table.update({name: rows for name in names if name.startswith(place + prefix)})
    return table

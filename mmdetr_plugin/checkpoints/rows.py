"""What the rows of a parameter stand for, where another number of them may be started from a file.

Every part knows its own: ``part.rows()`` maps prefixes of its parameters to :class:`Rows`.
Parameters that no part names have one shape only.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

CLASSES, ANY_CLASS, QUERIES = 'classes', 'any class', 'queries'


@dataclass(frozen=True)
class Rows:
    """The meaning of the first dimension of parameters.

    Attributes:
        of: ``classes``: a row for each; ``any class``: row 0 is for objects of any class, the others
            are never positive; ``queries``: a row for each point, box, pattern or query.
        extra: so many rows at the end mean the same in every model, e.g. no object.
    """

    of: str
    extra: int = 0


def row_table(model: nn.Module) -> dict[str, Rows]:
    """Names of parameters of ``model`` -> what their rows stand for, as its parts declare it."""
    table: dict[str, Rows] = {}
    names = list(model.state_dict())
    for path, part in model.named_modules():
        declare = getattr(part, 'rows', None)
        if not callable(declare):
            continue
        place = f'{path}.' if path else ''
        for prefix, rows in declare().items():
            table.update({name: rows for name in names if name.startswith(place + prefix)})
    return table

"""What a layout is: how a project calls the parameters of our parts in its files.

A layout has a table, ``class name of a part -> names``. Classes are looked up along the MRO, so that a
subclass has the names of its base classes, and those of its own entry besides. The names of a part
map prefixes of its parameters to the prefixes that the layout has in their place. What stands there is

* relative to the part's own place;
* with a leading ``../``, relative to the place of the part's parent;
* with a leading ``/``, relative to the root of the detector;
* with a leading ``//``, relative to the root of the file, where models with a mask head hold the
  detector as one of their parts.

What a prefix maps to:

* a string: the prefix there;
* a tuple: several names of one tensor;
* a list: the tensor is split there, along its first axis, e.g. ``in_proj_weight`` into the matrices
  of queries, keys and values.

Where names depend on the settings of a part, its entry is a function of the part. ``ABSENT`` stands for
parts that no model of the layout has. Parts without an entry have our names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from ...detector import DETR

ABSENT = None
"""The names of a part that the layout does not have."""

Target = str | tuple[str, ...] | list[str]
Names = Mapping[str, Target]
Entry = Names | Callable[[Any], Names | None] | None


@dataclass
class Layout:
    """Names and habits of the files of one project.

    What is left out is that of ``base``; its table is extended by ``parts``.

    Attributes:
        name: of this layout.
        parts: class names of our parts -> their names there.
        base: the layout that this one differs from.
        style: whose files they are: ``ours``, ``official``, ``mmdet`` or ``hf``.
        marks: a file has this layout if, for each of these, one of its names begins with it. Of several
            layouts that a file may have, it has the one with the most marks.
        wrapper: place of the detector in models with a mask head.
        lacks: names of the model's tensors -> those that files may lack; they become zeros.
        short: names in files of tensors without the rows that :class:`Rows` calls ``extra``; these
            become zeros.
        from_file: tensors as a file names them -> by the names of the table.
        official: the official layout of the same models, if this is the one that they are written in
            for others.
    """

    name: str
    parts: Mapping[str, Entry]
    base: Layout | None = None
    style: str = ''
    marks: tuple[str, ...] = ()
    wrapper: str = ''
    lacks: Callable[[Collection[str]], set[str]] | None = None
    short: tuple[str, ...] = ()
    from_file: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None
    official: str = ''

    def __post_init__(self) -> None:
        if self.base is None:
            return
        self.parts = {**self.base.parts, **self.parts}
        for field in fields(self):
            if not getattr(self, field.name):
                setattr(self, field.name, getattr(self.base, field.name))

    def names_of(self, part: nn.Module) -> Names | None:
        """Names of the parameters of one part, ``ABSENT`` if the layout has no such part."""
        names: Names | None = {}
        for cls in reversed(type(part).__mro__):
            if cls.__name__ in self.parts:
                entry = self.parts[cls.__name__]
                found = entry(part) if callable(entry) else entry
                names = ABSENT if found is ABSENT else {**(names or {}), **found}
        return names

    def root_of(self, model: DETR) -> str:
        """What the names of the detector begin with."""
        return '' if model.mask_head is None else self.wrapper

    def has_marks(self, names: Collection[str]) -> bool:
        """Whether these may be names of a file of this layout."""
        bare = [name.removeprefix(self.wrapper) for name in names]
        return bool(self.marks) and all(
            any(name.startswith(mark) for name in bare) for mark in self.marks
        )

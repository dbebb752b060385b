"""What a layout is: how a project calls the parameters of our parts in its files.

A layout has a table, ``class name of a part -> names``. Classes are looked up along the MRO, so that a
subclass has the names of its base classes in addition to those of its own entry. The entry of a part
maps prefixes of its parameters to their prefixes in the layout. The latter are

* relative to the part itself;
* with a leading ``../``, relative to the part's parent;
* with a leading ``/``, relative to the root of the detector;
* with a leading ``//``, relative to the root of the file, where models with a mask head hold the
  detector as one of their parts.

A prefix maps to

* a string: the prefix in the layout;
* a tuple: several names of one tensor;
* a list: the tensor is split in the layout, along its first axis, e.g. ``in_proj_weight`` into the
  matrices of queries, keys and values;
* a name that ends with ``[i/n]``: part i of the n equal parts that the rows of the tensor ``name`` have
  in the layout, e.g. for the queries of group i (see :mod:`~mmdetr_plugin.checkpoints.shares`).

Where names depend on the settings of a part, its entry is a function of the part. ``ABSENT`` is the
entry of parts that no model of the layout has. Parts without an entry have our names.
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
    """Names in the files of one project.

    Attributes that are left out are those of ``base``; ``parts`` extends its table.

    Attributes:
        name: of this layout.
        parts: class names of our parts -> their names there.
        base: the layout that this one differs from.
        origin: the project that writes such files: ``ours``, ``official``, ``mmdet`` or ``hf``.
        marks: beginnings of names. A file may have this layout if it has names with each of them; if
            several layouts are possible, the one with the most marks is taken.
        wrapper: prefix of the detector's names in models with a mask head.
        lacks: names of the model's tensors -> those that files may lack; they become zeros.
        short: names in files of tensors without the rows that :class:`Rows` calls ``extra``; these
            become zeros.
        pretraining: beginnings of names of parts that serve pre-training without labels alone
            (UP-DETR). A model without these parts skips them in a file.
        relearnt: beginnings of names that such a model does not take from such a file either.
        from_file: tensors as a file names them -> by the names of the table.
        counters: whether files count the batches that each trained batch norm has seen, as torch does.
        constants: tensors of files, by name, that follow from the model's config: they are not read,
            and written with the weights of a whole model.
        official: the official layout of the same models, if this is the one that they are written in
            for others.
    """

    name: str
    parts: Mapping[str, Entry]
    base: Layout | None = None
    origin: str = ''
    marks: tuple[str, ...] = ()
    wrapper: str = ''
    lacks: Callable[[Collection[str]], set[str]] | None = None
    short: tuple[str, ...] = ()
    pretraining: tuple[str, ...] = ()
    relearnt: tuple[str, ...] = ()
    from_file: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None
    counters: bool = False
    constants: Callable[[DETR], Mapping[str, Tensor]] | None = None
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

    def constants_of(self, model: DETR) -> Mapping[str, Tensor]:
        """See ``constants``."""
        return {} if self.constants is None else self.constants(model)

    def has_marks(self, names: Collection[str]) -> bool:
        """Whether these may be names of a file of this layout."""
        bare = [name.removeprefix(self.wrapper) for name in names]
        return bool(self.marks) and all(
            any(name.startswith(mark) for name in bare) for mark in self.marks
        )

"""The known layouts, and how the layout of a file is recognised.

Every module of this folder registers its layouts; all of them are imported here. Messages for users
name only the origin of a layout: ``ours``, ``official``, ``mmdet`` or ``hf``.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from .layout import ABSENT, Layout
from .registry import LAYOUTS, register

if TYPE_CHECKING:
    from ...detector import DETR

__all__ = [
    'ABSENT',
    'DEFAULT',
    'LAYOUTS',
    'Layout',
    'check_official',
    'get_layout',
    'hf_layout',
    'is_official',
    'recognise',
    'register',
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f'{__name__}.{_module.name}')

DEFAULT = 'detr'
"""The official layout of a model that states none."""

BACKBONE = 'backbone.'
"""Where ours and mmdet's models have the backbone, with the same names inside."""

MMDET_2 = 'bbox_head.transformer.'


def get_layout(name: str) -> Layout:
    """The layout of this name.

    Raises:
        ValueError: there is none.
    """
    return LAYOUTS[_known(name, LAYOUTS, 'the layout')]


def check_official(name: str) -> str:
    """``name``, if it is the name of an official layout.

    Raises:
        ValueError: it is not.
    """
    official = [layout.name for layout in LAYOUTS.values() if layout.origin == 'official']
    return _known(name, official, 'model.layout')


def _known(name: str, names: Collection[str], what: str) -> str:
    if name in names:
        return name
    near = difflib.get_close_matches(str(name), names, n=1)
    raise ValueError(
        f'{what} must be one of {sorted(names)}, got {name!r}; '
        + (f"did you mean '{near[0]}'?" if near else 'choose one, or register a new one')
    )


def is_official(names: Iterable[str]) -> bool:
    """Whether these are names of a published checkpoint of the family (and not ours)."""
    names = list(names)
    return any(x.origin == 'official' and x.has_marks(names) for x in LAYOUTS.values())


def recognise(names: Iterable[str], official: str = DEFAULT, own: Collection[str] = ()) -> str:
    """The layout that has these names.

    Args:
        official: what a file of an official repository has; the files of several look alike.
        own: names in the ``state_dict`` of the model. The layout is ``ours`` if most of the names are
            among them and none of the others is a mark of another layout.

    Raises:
        ValueError: no layout has these names.
    """
    names = list(names)
    others = [name for name in names if name not in own]
    if is_official(others):
        return official
    if any(name.startswith(MMDET_2) for name in others):
        raise ValueError(
            f'the checkpoint must be of mmdet 3.x, but has names of mmdet 2.x ({MMDET_2}...); '
            'take the 3.x file of the same model'
        )
    fitting = [layout for layout in LAYOUTS.values() if layout.has_marks(others)]
    if fitting:
        return max(fitting, key=lambda layout: len(layout.marks)).name
    telling = [name for name in names if not name.startswith(BACKBONE)]
    if 2 * sum(name in own for name in telling) > len(telling):
        return 'ours'
    raise ValueError(
        'the names of the checkpoint must be those of one of the layouts '
        f'{tuple(dict.fromkeys(x.origin for x in LAYOUTS.values()))}, got '
        f'{", ".join((telling or names)[:3]) or "no tensors"}; '
        'give a checkpoint of a model of the DETR family'
    )


def hf_layout(model: DETR) -> str:
    """The layout of transformers' counterpart of ``model``.

    Raises:
        ValueError: it has none.
    """
    layouts = [x for x in LAYOUTS.values() if x.origin == 'hf' and x.official == model.layout]
    if not layouts:
        known = sorted({x.official for x in LAYOUTS.values() if x.origin == 'hf' and x.official})
        raise ValueError(
            f'the layout must be one of {known} for transformers to have the model, got '
            f"'{model.layout}'; write the official layout"
        )
    lacking = []
    for layout in layouts:
        absent = [type(p).__name__ for p in model.modules() if layout.names_of(p) is ABSENT]
        if not absent:
            return layout.name
        lacking.append(f"'{layout.name}' has no {absent[0]}")
    raise ValueError(
        f'every part of the model must exist in transformers, but {" and ".join(lacking)}; '
        'write the official layout'
    )

"""The DETR family as registered, interchangeable parts for MMDetection.

Every registered class is an attribute of the package and is imported on first use. So
``type='mmdetr_plugin.X'`` works in any config, even without a default scope. ``load`` loads a model for
prediction, ``config_path`` is the path of a config of this project.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .compat import check_dependencies
from .version import __version__

check_dependencies()

# Whoever has imported the package can read its checkpoints, also by mmdet's functions.
from .checkpoints.safe_globals import register_safe_globals  # noqa: E402

register_safe_globals()

if TYPE_CHECKING:
    from .engine.project import config_path
    from .inference import load

FUNCTIONS = {'config_path': 'engine.project', 'load': 'inference'}
"""Functions that are imported on first use, and their modules."""

__all__ = ['__version__', 'config_path', 'load']


def __getattr__(name: str) -> Any:
    if name.startswith('_'):
        raise AttributeError(name)
    if name in FUNCTIONS:
        return getattr(import_module(f'{__name__}.{FUNCTIONS[name]}'), name)
    registered = _registered()
    if name not in registered:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return registered[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_registered()})


def _registered() -> dict[str, type]:
    """All classes by name; of two with the same name, that of the registry which comes first."""
    registry = import_module(f'{__name__}.registry')
    import_module(f'{__name__}.components')  # registers every class
    found: dict[str, type] = {}
    for value in vars(registry).values():
        if isinstance(value, registry.Registry):
            found = {**value.module_dict, **found}
    return found

"""The DETR family as registered, interchangeable parts for MMDetection.

Every registered class is an attribute of the package and is imported on first use. So
``type='mmdetr_plugin.X'`` works in any config, even without a default scope.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .compat import check_dependencies
from .version import __version__

check_dependencies()

__all__ = ['__version__']


def __getattr__(name: str) -> Any:
    if name.startswith('_'):
        raise AttributeError(name)
    registry = import_module(f'{__name__}.registry')
    import_module(f'{__name__}.components')  # registers every class
    for value in vars(registry).values():
        if isinstance(value, registry.Registry) and name in value.module_dict:
            return value.module_dict[name]
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

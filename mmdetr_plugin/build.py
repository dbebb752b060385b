"""Builds a slot from its config: finds the class and passes values that the model states once."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.registry import Registry


def build_slot(registry: Registry, cfg: Any, slot: str, **shared: Any) -> Any:
    """Build ``cfg`` with those ``shared`` values that its class accepts and ``cfg`` does not state.

    Args:
        registry: the registry that knows the type.
        cfg: the slot's config. None, or an object that is already built, is returned unchanged.
        slot: the slot's name, for messages.
        shared: values that the model states once (``embed_dims``, ``num_classes``, ...).

    Raises:
        ValueError: the config has no type, an unknown type, or an argument its class does not take.
    """
    if cfg is None or not isinstance(cfg, Mapping):
        return cfg
    args = dict(cfg)
    if 'type' not in args:
        raise ValueError(f"slot '{slot}' needs a dict with a 'type', got {dict(cfg)}; add type=...")
    kind = args['type']
    if isinstance(kind, str) and '.' not in kind and '_scope_' in args:
        kind = f'{args["_scope_"]}.{kind}'  # inherited by ``mmdet::``
    cls = kind if inspect.isclass(kind) else _lookup(registry, kind, slot)
    parameters = inspect.signature(cls).parameters
    for name, value in shared.items():
        if name in parameters:
            args.setdefault(name, value)
    unknown = sorted(set(args) - set(parameters) - {'type', '_scope_'})
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise ValueError(
            f"slot '{slot}': {cls.__name__} takes {sorted(parameters)}, got {unknown}; "
            'remove or rename these arguments'
        )
    return registry.build({**args, 'type': cls})


def _lookup(registry: Registry, kind: str, slot: str) -> type:
    try:
        cls = registry.get(kind)
    except RuntimeError:  # mmengine raises it for a name that no registry knows
        cls = None
    if cls is None:
        names = sorted(registry.module_dict)
        near = difflib.get_close_matches(kind.split('.')[-1], names, n=3, cutoff=0.4) or names
        raise ValueError(
            f"slot '{slot}' must name a registered type, got {kind!r}; did you mean one of {near}?"
        )
    return cls

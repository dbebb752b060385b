"""Builds a slot from its config: finds the class and passes values that the model states once."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from mmengine.registry import Registry

_HANDED_DOWN: ContextVar[Mapping[str, Any] | None] = ContextVar('handed down', default=None)
"""The shared values of the slots that enclose the one being built."""


def build_slot(
    registry: Registry, cfg: Any, slot: str, contract: type | None = None, **shared: Any
) -> Any:
    """Build ``cfg``, adding the ``shared`` values that its class takes and ``cfg`` does not state.

    The slots inside it get these values too, at any depth, unless a slot in between states others.

    Args:
        registry: the registry that knows the type.
        cfg: the slot's config. None, or an object that is already built, is returned unchanged.
        slot: the slot's name, for messages.
        contract: base class that the class of the slot must have.
        shared: values that are stated once (``embed_dims``, ``num_classes``, ...).

    Raises:
        ValueError: the config has no type, an unknown type, a type that does not fit the slot, lacks
            an argument that its class needs, or has one that it does not take.
    """
    if cfg is None:
        return None
    if not isinstance(cfg, Mapping):
        _check_contract(type(cfg), contract, slot)
        return cfg
    args = dict(cfg)
    if 'type' not in args:
        raise ValueError(f"slot '{slot}' needs a dict with a 'type', got {dict(cfg)}; add type=...")
    kind = args['type']
    if isinstance(kind, str) and '.' not in kind and '_scope_' in args:
        kind = f'{args["_scope_"]}.{kind}'  # inherited by ``mmdet::``
    cls = kind if inspect.isclass(kind) else _lookup(registry, kind, slot)
    _check_contract(cls, contract, slot)
    parameters = inspect.signature(cls).parameters
    shared = {**(_HANDED_DOWN.get() or {}), **shared}
    for name, value in shared.items():
        if name in parameters:
            args.setdefault(name, value)
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in args
    ]
    if missing:
        raise ValueError(
            f"slot '{slot}': {cls.__name__} needs {missing}, got {sorted(set(args) - {'type'})}; state "
            'them in its config'
        )
    unknown = sorted(set(args) - set(parameters) - {'type', '_scope_'})
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise ValueError(
            f"slot '{slot}': {cls.__name__} takes {sorted(parameters)}, got {unknown}; "
            'remove or rename these arguments'
        )
    token = _HANDED_DOWN.set({**shared, **{name: args[name] for name in shared if name in args}})
    try:
        return registry.build({**args, 'type': cls})
    finally:
        _HANDED_DOWN.reset(token)


def _check_contract(cls: type, contract: type | None, slot: str) -> None:
    if contract is not None and not issubclass(cls, contract):
        raise ValueError(
            f"slot '{slot}' needs a subclass of {contract.__module__}.{contract.__name__}, got "
            f'{cls.__module__}.{cls.__name__}; choose another type, or derive it from that class'
        )


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


def stated_layers(decoder: Any) -> int:
    """Number of layers in the config of a decoder.

    Raises:
        ValueError: it is not stated.
    """
    number = decoder.get('num_layers') if isinstance(decoder, Mapping) else None
    if type(number) is not int or number < 1:
        raise ValueError(
            f'decoder.num_layers must be a positive integer, got {number!r}; state it in the config '
            'of the decoder'
        )
    return number

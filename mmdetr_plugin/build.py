"""Builds a slot from its config: finds the class and passes values that the model states once."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry

from .arguments import SlotError, building, check_arguments, check_type, place_of

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
        slot: the slot's name in the part around it, for messages.
        contract: base class that the class of the slot must have.
        shared: values that are stated once (``embed_dims``, ``num_classes``, ...).

    Raises:
        SlotError: the config has no type, an unknown type, a type that does not fit the slot, lacks
            an argument that its class needs, has one that it does not take, or one of a wrong type
            or value. It is a ValueError.
    """
    if cfg is None:
        return None
    if not isinstance(cfg, Mapping):
        if type(cfg).__module__ == 'builtins':
            check_type(Mapping, cfg, place_of(slot))
        _check_contract(type(cfg), contract, place_of(slot))
        return cfg
    args = dict(cfg)
    place = place_of(slot, cfg)
    if 'type' not in args:
        raise SlotError(f"slot '{place}' needs a dict with a 'type', got {args}; add type=...")
    kind, scope = args.pop('type'), args.pop('_scope_', None)
    if isinstance(kind, str) and '.' not in kind and scope is not None:
        kind = f'{scope}.{kind}'  # inherited by ``mmdet::``
    cls = kind if inspect.isclass(kind) else _lookup(registry, kind, place)
    _check_contract(cls, contract, place)
    parameters = inspect.signature(cls).parameters
    shared = {**(_HANDED_DOWN.get() or {}), **shared}
    unknown_here = {name for name, value in shared.items() if value is None and name not in args}
    for name, value in shared.items():
        if name in parameters:
            args.setdefault(name, value)
    check_arguments(cls, args, place, skip=unknown_here)
    token = _HANDED_DOWN.set({**shared, **{name: args[name] for name in shared if name in args}})
    try:
        with building(place, cls.__name__, args):
            return registry.build({**args, 'type': cls})
    finally:
        _HANDED_DOWN.reset(token)


def _check_contract(cls: type, contract: type | None, place: str) -> None:
    if contract is not None and not issubclass(cls, contract):
        raise SlotError(
            f"slot '{place}' needs a subclass of {contract.__module__}.{contract.__name__}, got "
            f'{cls.__module__}.{cls.__name__}; choose another type, or derive it from that class'
        )


def _lookup(registry: Registry, kind: Any, place: str) -> type:
    try:
        cls = registry.get(kind) if isinstance(kind, str) else None
    except RuntimeError:  # mmengine raises it for a name that no registry knows
        cls = None
    if cls is None:
        near = _near(registry, str(kind).split('.')[-1])
        raise SlotError(
            f"slot '{place}' must name a registered type, got {kind!r}; {_absent_package(kind)}"
            f'did you mean one of {near}?'
        )
    return cls


def _absent_package(kind: Any) -> str:
    """What to do if ``kind`` names a package that is not installed, such as ``mmpretrain.ConvNeXt``."""
    package, dot, _ = str(kind).partition('.')
    if not (dot and package.isidentifier()) or find_spec(package) is not None:
        return ''
    known = MODULE2PACKAGE.get(package)
    advice = f'pip install {known}' if known else 'install it, or correct its name'
    return f'{package} is not installed: {advice}; or '


def _near(registry: Registry, name: str) -> list[str]:
    """Registered names that are like ``name``: ours, else those of the parents, else all of ours."""
    known: Registry | None = registry
    while known is not None:
        near = difflib.get_close_matches(name, known.module_dict, n=3, cutoff=0.4)
        if near:
            return near
        known = known.parent
    return sorted(registry.module_dict)


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

"""Checks the arguments of a part against the signature of its class, before it is built.

Every part comes through here (:func:`~mmdetr_plugin.build.build_slot`), so that classes check only
what depends on several arguments. Messages name the argument by its place in the config, such as
``model.encoder.layer.self_attn.num_heads``.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec

from mmengine.registry import MODELS
from torch import nn
from torch.nn.functional import interpolate

from .hints import fits, implied, words
from .ranges import SIZES, range_of

P = ParamSpec('P')

_PLACE: ContextVar[str] = ContextVar('place', default='')
"""The place of the part that is being built."""

_RAISED = (
    *(ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError),
    RuntimeError,
)
"""What constructors raise for values that they cannot use; not what concerns files and packages."""


class SlotError(ValueError):
    """A part cannot be built; the message names its place in the config."""


class Placed(dict):
    """A config that knows its place, where it is not that of its name in the part around it."""

    def __init__(self, cfg: Mapping[str, Any], place: str) -> None:
        super().__init__(cfg)
        self.place = place


class Parameters(typing.NamedTuple):
    """What a class takes: parameters by name, and whether it takes any further names."""

    known: Mapping[str, inspect.Parameter]
    hints: Mapping[str, Any]
    any_name: bool


def place_of(slot: str, cfg: Any = None) -> str:
    """The place of a slot of the part that is being built, such as ``model.encoder.layer``."""
    if isinstance(cfg, Placed):
        return cfg.place
    parent = _PLACE.get()
    return f'{parent}.{slot}' if parent else slot


@functools.cache
def parameters_of(cls: type) -> Parameters:
    """The parameters of the constructor; ``**kwargs`` stand for those of the next class.

    Other names of such a parameter (``**options``) stand for anything.
    """
    known: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    for base in cls.__mro__:
        init = base.__dict__.get('__init__')
        if init is None:
            continue
        if base.__module__.startswith(('torch.', 'mmengine.')) and base is not cls:
            return Parameters(known, hints, True)  # the class itself uses its ``kwargs``
        forwards = False
        stated = _hints_of(init)
        for name, parameter in list(inspect.signature(init).parameters.items())[1:]:
            if parameter.kind is parameter.VAR_KEYWORD:
                if name != 'kwargs':
                    return Parameters(known, hints, True)
                forwards = True
            elif parameter.kind is not parameter.VAR_POSITIONAL and name not in known:
                known[name] = parameter
                if name in stated:
                    hints[name] = stated[name]
        if not forwards:
            return Parameters(known, hints, False)
    return Parameters(known, hints, False)


def _hints_of(init: Callable) -> dict[str, Any]:
    try:
        return typing.get_type_hints(init)
    except (NameError, TypeError, AttributeError):  # names that exist for type checkers alone
        return {}


def check_arguments(
    cls: type,
    args: Mapping[str, Any],
    place: str,
    skip: Collection[str] = (),
    name: str | None = None,
) -> None:
    """Check names, types and ranges of the arguments of a class.

    Args:
        args: the arguments by name; those of other names than the class takes are refused.
        place: of the part in the config.
        skip: names that the class itself checks.
        name: of the class, for messages.

    Raises:
        SlotError: one is missing, not known, of a wrong type or out of its range.
    """
    known, hints, any_name = parameters_of(cls)
    what = name or cls.__name__
    unknown = sorted(str(name) for name in args if name not in known)
    if unknown and not any_name:
        raise SlotError(
            f"slot '{place}': {what} takes {sorted(known)}, got {unknown}; remove or rename "
            f'these arguments{_did_you_mean(unknown, known)}'
        )
    missing = [n for n, p in known.items() if p.default is p.empty and n not in args]
    if missing:
        raise SlotError(
            f"slot '{place}': {what} needs {missing}, got {sorted(map(str, args))}; state "
            f'them in its config{_did_you_mean(missing, [n for n in args if n not in known])}'
        )
    for key, value in args.items():
        if key in known and key not in skip:
            check_value(cls, key, value, place, known[key], hints)
        if key in LAYERS and isinstance(value, Mapping):
            _check_layer(LAYERS[key](value), value, f'{place}.{key}')


def _check_layer(what: Callable | None, cfg: Mapping[str, Any], place: str) -> None:
    """Check the config of a layer that mmcv or mmdet builds, against what takes its arguments."""
    if isinstance(what, type):
        known, hints, _ = parameters_of(what)
        for key in known.keys() & cfg.keys():
            check_value(what, key, cfg[key], place, known[key], hints)
    elif what is not None:
        names = inspect.signature(what).parameters
        unknown = sorted(set(cfg) - set(names))
        if unknown:
            raise SlotError(
                f'{place} must be arguments of {what.__name__}, {sorted(names)}, got {unknown}; remove '
                f'or rename them{_did_you_mean(unknown, names)}'
            )


def _norm(cfg: Mapping[str, Any]) -> type | None:
    kind = cfg.get('type')
    return MODELS.get(kind) if isinstance(kind, str) else None


LAYERS: dict[str, Callable[[Mapping[str, Any]], Callable | None]] = {
    'norm_cfg': _norm,
    'upsample_cfg': lambda _: interpolate,
}
"""Arguments that are such configs, whoever takes them: what builds or computes the layer."""


def check_value(
    cls: type,
    name: str,
    value: Any,
    place: str,
    parameter: inspect.Parameter,
    hints: Mapping[str, Any],
) -> None:
    default = parameter.default
    if value is default or (type(value) is type(default) and value is None):
        return
    if name in hints:
        hint = hints[name]
    elif parameter.annotation is not parameter.empty:
        hint = Any
    else:
        hint = int | Sequence[int] | None if name in SIZES else implied(default)
    bounds = range_of(cls, name)
    if not fits(value, hint, bounds):
        advice = ''
        if words(hint).startswith('a dict'):
            advice = '; a part is written dict(type=...)'
        elif isinstance(value, (list, tuple)) and 'class_weight' in hints:
            advice = '; a weight for each class is class_weight=[...]'
        raise SlotError(
            f'{place}.{name} must be {words(hint, bounds)}, got {_short(value)}{advice}; change it '
            'in the config'
        )


def check_type(hint: Any, value: Any, place: str) -> None:
    """Raise SlotError unless ``value`` fits the type ``hint``."""
    if not fits(value, hint):
        raise SlotError(
            f'{place} must be {words(hint)}, got {_short(value)}; change it in the config'
        )


@contextmanager
def building(place: str, what: str, args: Mapping[str, Any]) -> typing.Iterator[None]:
    """While a part is built: slots inside it have places below ``place``, errors name it.

    Raises:
        SlotError: its constructor raised.
    """
    token = _PLACE.set(place)
    try:
        yield
    except SlotError:
        raise
    except _RAISED as error:
        if isinstance(error, ValueError) and ', got ' in str(error):  # one of ours
            raise SlotError(f"slot '{place}': {error}") from error
        values = ', '.join(f'{n}={_short(v, 60)}' for n, v in args.items() if _is_plain(v))
        raise SlotError(
            f"slot '{place}': {what} must be buildable from its arguments, got "
            f'{type(error).__name__}: {error}, with {values or "none"}; change them'
        ) from error
    finally:
        _PLACE.reset(token)


def checked(
    place: str, skip: Collection[str] = ()
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Decorate the constructor of a class that is not built by ``build_slot``: check its arguments.

    Args:
        place: in the config.
        skip: names of arguments that the constructor checks.
    """

    def decorate(init: Callable[P, None]) -> Callable[P, None]:
        signature = inspect.signature(init)

        @functools.wraps(init)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
            self = args[0]
            positional = list(signature.parameters)[1 : len(args)]
            given = {**dict(zip(positional, args[1:], strict=False)), **kwargs}
            cls = _owner(type(self), wrapped)
            what = type(self).__name__
            check_arguments(cls, given, place, skip, what)
            with building(place, what, given):
                init(*args, **kwargs)

        return wrapped

    return decorate


def _owner(cls: type, init: Callable) -> type:
    """The class of ``cls.__mro__`` whose constructor this is."""
    return next((base for base in cls.__mro__ if base.__dict__.get('__init__') is init), cls)


def _did_you_mean(given: Iterable[str], known: Iterable[str]) -> str:
    found = {
        name: close[0]
        for name in given
        if (close := difflib.get_close_matches(str(name), [str(k) for k in known], n=1))
    }
    pairs = ', '.join(f'{near!r} for {name!r}' for name, near in found.items())
    return f' (did you mean {pairs}?)' if pairs else ''


def _is_plain(value: Any) -> bool:
    return not isinstance(value, (Mapping, nn.Module))


def _short(value: Any, length: int = 120) -> str:
    text = f'{type(value).__name__}' if isinstance(value, nn.Module) else repr(value)
    return text if len(text) <= length else f'{text[:length]}...'

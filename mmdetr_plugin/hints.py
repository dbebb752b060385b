"""Whether a value fits a type hint, and what a hint asks for in words."""

from __future__ import annotations

import math
import numbers
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Union, get_args, get_origin

from torch import nn

_UNIONS = (Union, types.UnionType)


class Range(NamedTuple):
    """Bounds of a number; None = there is none."""

    low: float | None = None
    high: float | None = None
    open: bool = False
    """Whether the bounds themselves are excluded."""

    def holds(self, value: float) -> bool:
        if self.open:
            return (self.low is None or value > self.low) and (
                self.high is None or value < self.high
            )
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def words(self, kind: str, many: bool) -> str:
        """Such as ``a positive integer``; ``kind`` is ``integer`` or ``number``."""
        article = '' if many else 'an ' if kind == 'integer' else 'a '
        noun = f'{kind}s' if many else kind
        if self.high is not None:
            bounds = f'between {self.low:g} and' if self.open else f'from {self.low:g} to'
            return f'{article}{noun} {bounds} {self.high:g}'
        if self.low is None:
            return f'{article}{noun}'
        if self == Range(1) or self == Range(0, open=True):
            return f'positive {noun}' if many else f'a positive {noun}'
        return f'{article}{noun} {">" if self.open else ">="} {self.low:g}'


ANY = Range()


def fits(value: Any, hint: Any, bounds: Range = ANY) -> bool:
    """Whether ``value`` is of the type ``hint``, with its numbers within ``bounds``.

    As configs are written: lists and tuples are the same, an integer is a number, True is none, and a
    built module may stand for its config. Hints that are not known here fit anything.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in _UNIONS:
        return any(fits(value, arg, bounds) for arg in args)
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float, numbers.Number):
        return _is_number(value, hint) and bounds.holds(value)
    kind = origin or hint
    if not isinstance(kind, type) or kind is object:
        return True
    if issubclass(kind, Mapping):
        return _is_mapping(value, args, bounds)
    if _is_sequence_type(kind):
        return isinstance(value, (list, tuple)) and _elements_fit(value, args, bounds)
    return _is_instance(value, kind)


def words(hint: Any, bounds: Range = ANY, many: bool = False) -> str:
    """What ``hint`` asks for: ``a positive integer or None``."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in _UNIONS:
        parts = dict.fromkeys(words(arg, bounds, many) for arg in args)
        return ' or '.join(sorted(parts, key=lambda part: part == 'None'))
    if hint is None or hint is type(None):
        return 'None'
    if hint is bool:
        return 'True or False'
    if hint in (int, float, numbers.Number):
        return bounds.words('integer' if hint is int else 'number', many)
    if hint is str:
        return 'texts' if many else 'a text'
    kind = origin or hint
    if not isinstance(kind, type) or kind is object:
        return 'values' if many else 'a value'
    if issubclass(kind, Mapping):
        return 'dicts' if many else 'a dict'
    if _is_sequence_type(kind):
        number = f'{len(args)} ' if _is_pair(args) else ''
        inner = f' of {number}{words(args[0], bounds, many=True)}' if args else ''
        return f'{"lists" if many else "a list"}{inner}'
    return f'{kind.__name__}s' if many else f'a {kind.__name__}'


def implied(default: Any) -> Any:
    """A hint that a default value stands for, where a parameter has none; wide, as it is a guess."""
    if isinstance(default, (bool, str)):
        return type(default) | None
    if isinstance(default, (int, float)):
        return float | Sequence[float] | None
    if isinstance(default, (list, tuple)):
        numeric = bool(default) and all(_is_number(x, float) for x in default)
        return Sequence[float] | float | None if numeric else Sequence | float | None
    if isinstance(default, Mapping):
        return Mapping | None
    return Any


def _is_number(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return False
    if kind is int:
        return isinstance(value, numbers.Integral)
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _is_mapping(value: Any, args: Sequence[Any], bounds: Range) -> bool:
    if isinstance(value, nn.Module):
        return True
    if not isinstance(value, Mapping):
        return False
    return len(args) < 2 or all(
        fits(k, args[0]) and fits(v, args[1], bounds) for k, v in value.items()
    )


def _is_sequence_type(kind: type) -> bool:
    return issubclass(kind, Iterable) and kind in (list, tuple, Sequence, Iterable)


def _is_pair(args: Sequence[Any]) -> bool:
    """Whether these are the arguments of a tuple of a stated length; (int,) often means any."""
    return len(args) > 1 and Ellipsis not in args


def _elements_fit(value: Sequence[Any], args: Sequence[Any], bounds: Range) -> bool:
    if _is_pair(args):
        return len(value) == len(args) and all(map(lambda v, a: fits(v, a, bounds), value, args))
    return not args or all(fits(item, args[0], bounds) for item in value)


def _is_instance(value: Any, kind: type) -> bool:
    check: Callable[[Any, type], bool] = isinstance
    try:
        return check(value, kind)
    except TypeError:  # a protocol that cannot be checked
        return True

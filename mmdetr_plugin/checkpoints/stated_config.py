"""The config in a checkpoint, read as data: its text is Python and is not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

LONGEST = 1_000_000
"""Characters of a config."""


def stated_config(text: object) -> dict[str, Any]:
    """The values of a config that MMEngine has written into a checkpoint.

    Only literals and ``dict(...)`` are read; an entry with anything else is left out.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        return {}
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found = {}
    for statement in tree.body:
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            continue
        (target,) = statement.targets
        if isinstance(target, ast.Name):
            try:
                found[target.id] = _value(statement.value)
            except (ValueError, TypeError, RecursionError):
                continue
    return found


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not (isinstance(node.func, ast.Name) and node.func.id == 'dict') or node.args:
            raise ValueError('a call')
        return {str(k.arg): _value(k.value) for k in node.keywords}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_value(k): _value(v) for k, v in pairs if k is not None}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(child) for child in node.elts]
    return ast.literal_eval(node)


def differences(theirs: Any, ours: Any, path: str) -> Iterator[str]:
    """Where two configs differ, entry by entry; entries of one side alone are compared with None."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for key in sorted({*map(str, theirs), *map(str, ours)}):
            yield from differences(theirs.get(key), ours.get(key), f'{path}.{key}')
    elif isinstance(theirs, (list, tuple)) and isinstance(ours, (list, tuple)):
        if len(theirs) != len(ours):
            yield f'{path}: {list(theirs)} in the checkpoint, {list(ours)} here'
            return
        for i, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            yield from differences(one, other, f'{path}.{i}')
    elif theirs != ours:
        yield f'{path}: {theirs!r} in the checkpoint, {ours!r} here'

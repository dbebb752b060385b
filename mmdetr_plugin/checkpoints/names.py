"""Names of a model's parameters in the published checkpoints.

Every part knows its own names: ``part.keys(layout)`` maps prefixes of its parameters to the prefixes
that the layout gives them, relative to the part's own place, with a leading ``../`` to the place that
its parent has, or with a leading ``/`` from the root. A tuple lists several names of one tensor. The
map of a model is the union of its parts' maps.

Where the layout wraps the detector in a larger model, ``model.official_root`` is the prefix that
all names get, but for those with a leading ``//``.
"""

from __future__ import annotations

from itertools import product

from torch import nn

IGNORED = 'num_batches_tracked'
"""Counters of mmdet's batch norms that a published frozen norm does not have."""


def official_names(model: nn.Module, layout: str) -> dict[str, tuple[str, ...]]:
    """Our parameter and buffer names -> their names in ``layout``, the first being the principal."""
    root = getattr(model, 'official_root', '')
    return {
        name: tuple(_from_root(n, root) for n in _names(model, name, layout))
        for name in model.state_dict()
        if not name.endswith(IGNORED) and not name.startswith('data_preprocessor')
    }


def _names(module: nn.Module, name: str, layout: str) -> tuple[str, ...]:
    """Names of parameter ``name`` of ``module``, relative to the module or absolute."""
    keys = getattr(module, 'keys', None)
    table = keys(layout) if callable(keys) and not isinstance(module, nn.ModuleDict) else {}
    matches = [prefix for prefix in table if name.startswith(prefix)]
    if matches:
        prefix = max(matches, key=len)
        targets = table[prefix]
    elif '.' in name:
        prefix = name.split('.', 1)[0] + '.'
        targets = prefix
    else:
        return (name,)
    targets = targets if isinstance(targets, tuple) else (targets,)
    rest = name[len(prefix) :]
    child = module.get_submodule(prefix.rstrip('.')) if prefix.endswith('.') else None
    inner = _names(child, rest, layout) if child is not None and rest else (rest,)
    return tuple(_join(head, part) for head, part in product(targets, inner))


def _join(head: str, part: str) -> str:
    if part.startswith('../'):
        return part.removeprefix('../')
    return part if part.startswith('/') else head + part


def _from_root(name: str, root: str) -> str:
    return name[2:] if name.startswith('//') else root + name.removeprefix('/')


def projection_names(neck: nn.Module, layout: str) -> dict[str, str]:
    """Names of the input projections, the convolutions of a ``ChannelMapper``."""
    names = {}
    for kind in ('convs', 'extra_convs'):
        for i, module in enumerate(getattr(neck, kind, None) or ()):
            number = i + len(neck.convs) * (kind == 'extra_convs')
            name = f'/input_proj.{number}.0.'
            if layout == 'detr':
                name = '/input_proj.'
                if len(neck.convs) > 1:  # multi-scale SMCA: by width, and by size if that is not 1
                    size = '_3' if kind == 'extra_convs' else ''
                    name = f'/input_proj_{module.in_channels}{size}.'
            names[f'neck.{kind}.{i}.conv.'] = name
            names[f'neck.{kind}.{i}.gn.'] = f'/input_proj.{number}.1.'
    return names

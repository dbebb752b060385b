"""Names of a model's parameters in the published checkpoints.

Every part knows its own names: ``part.keys(layout)`` maps prefixes of its parameters to the prefixes
that the layout gives them, relative to the part's own place, with a leading ``../`` to the place that
its parent has, or with a leading ``/`` from the root. The map of a model is the union of its parts'
maps. What a prefix maps to:

* a string: the prefix there;
* a tuple: several names of one tensor;
* a list: the tensor is split there, along its first axis, e.g. ``in_proj_weight`` into the matrices
  of queries, keys and values.

``keys`` returns None where the layout has no such part.

Layouts are those of ``OFFICIAL``, see ``DETR.layout``, and those that ``layouts.py`` tells apart. Where
an official layout wraps the detector in a larger model, ``model.official_root`` is the prefix that all
names get, but for those with a leading ``//``.
"""

from __future__ import annotations

from itertools import product

from torch import nn

OFFICIAL = ('detr', 'deformable', 'anchor', 'sam')
"""Layouts of the official repositories."""


def style(layout: str) -> str:
    """Whose layout it is: ``mmdet`` for ``mmdet_detr``, ``official`` for ``detr``."""
    return 'official' if layout in OFFICIAL else layout.split('_')[0]


IGNORED = 'num_batches_tracked'
"""Counters of mmdet's batch norms that a published frozen norm does not have."""

Pieces = tuple[str, ...]
"""Names of the tensors that, joined along the first axis, are one of ours; as a rule a single one."""


def layout_names(
    model: nn.Module, layout: str, without: str | None = None
) -> dict[str, tuple[Pieces, ...]]:
    """Our parameter and buffer names -> their names in ``layout``, the first being the principal.

    Args:
        without: prefix of names to leave out.

    Raises:
        ValueError: the layout has no such part.
    """
    root = getattr(model, 'official_root', '') if layout in OFFICIAL else ''
    left_out = ('data_preprocessor', without or 'data_preprocessor')
    return {
        name: tuple(
            tuple(_from_root(n, root) for n in each) for each in _names(model, name, layout)
        )
        for name in model.state_dict()
        if not name.endswith(IGNORED) and not name.startswith(left_out)
    }


def official_names(model: nn.Module, layout: str) -> dict[str, tuple[str, ...]]:
    """As :func:`layout_names`, for an official layout, which splits no tensor."""
    return {n: tuple(p for (p,) in each) for n, each in layout_names(model, layout).items()}


def _names(module: nn.Module, name: str, layout: str) -> tuple[Pieces, ...]:
    """Names of parameter ``name`` of ``module``, relative to the module or absolute."""
    keys = getattr(module, 'keys', None)
    table = keys(layout) if callable(keys) and not isinstance(module, nn.ModuleDict) else {}
    if table is None:
        raise ValueError(
            f"every part of the model must exist in a checkpoint of the layout '{layout}', but "
            f'{type(module).__name__} does not; use the config that the checkpoint was made with'
        )
    matches = [prefix for prefix in table if name.startswith(prefix)]
    if matches:
        prefix = max(matches, key=len)
        targets = table[prefix]
    elif '.' in name:
        prefix = name.split('.', 1)[0] + '.'
        targets = prefix
    else:
        return ((name,),)
    heads = targets if isinstance(targets, tuple) else (targets,)
    rest = name[len(prefix) :]
    child = module.get_submodule(prefix.rstrip('.')) if prefix.endswith('.') else None
    inner = _names(child, rest, layout) if child is not None and rest else ((rest,),)
    return tuple(
        tuple(_join(h, part) for h in (head if isinstance(head, list) else [head]) for part in each)
        for head, each in product(heads, inner)
    )


def _join(head: str, part: str) -> str:
    if part.startswith('../'):
        return part.removeprefix('../')
    return part if part.startswith('/') else head + part


def _from_root(name: str, root: str) -> str:
    return name[2:] if name.startswith('//') else root + name.removeprefix('/')


def projection_names(neck: nn.Module, layout: str) -> dict[str, str]:
    """Names of the input projections, the convolutions of a ``ChannelMapper``."""
    names = {}
    root = '/model.' if layout.startswith('hf') else '/'
    for kind in ('convs', 'extra_convs'):
        for i, module in enumerate(getattr(neck, kind, None) or ()):
            number = i + len(neck.convs) * (kind == 'extra_convs')
            name = f'{root}input_proj.{number}.0.'
            if layout in ('hf_detr', 'hf_dab'):
                name = f'{root}input_projection.'
            elif layout == 'detr':
                name = '/input_proj.'
                if len(neck.convs) > 1:  # multi-scale SMCA: by width, and by size if that is not 1
                    size = '_3' if kind == 'extra_convs' else ''
                    name = f'/input_proj_{module.in_channels}{size}.'
            names[f'neck.{kind}.{i}.conv.'] = name
            names[f'neck.{kind}.{i}.gn.'] = f'{root}input_proj.{number}.1.'
    return names

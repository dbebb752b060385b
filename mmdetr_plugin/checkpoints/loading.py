"""From a checkpoint of any known layout to weights in the shapes of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from mmengine.logging import print_log
from torch import Tensor

from .adapt import adapt
from .convert import MASK_HEADS, to_ours, unused_names, unwrap
from .plan import SKIPPED, Plan, listing

if TYPE_CHECKING:
    from ..detector import DETR


def weights_for(
    model: DETR,
    checkpoint: Mapping,
    source: Sequence[str | None] | None = None,
    target: Sequence[str | None] | None = None,
    start: bool = True,
) -> tuple[dict[str, Tensor], Plan]:
    """Weights of ``checkpoint`` by the names and in the shapes of ``model``, and the plan behind them.

    The mask head is the only part that may be in one of file and model alone.

    Args:
        source, target, start: as for :func:`adapt`.

    Raises:
        ValueError: as :func:`to_ours` and :func:`adapt`.
    """
    weights = unwrap(checkpoint)
    state, layout, filled = to_ours(weights, model, masks=False)
    state, plan = adapt(state, model, source, target, start, filled)
    if layout != 'ours':
        plan.notes.insert(0, f'layout: {layout}')
        plan.notes.extend(_equal_heads(state))
    if filled:
        plan.notes.append(
            f'filled with zeros, as the layout has no such tensors: {listing(filled)}'
        )
    unused = unused_names(weights, model)
    if unused:
        plan.notes.append(
            'a pre-training without labels: its class head and what reads its patches are not used'
        )
    for name, value in weights.items():
        masks = name.startswith(MASK_HEADS) and model.mask_head is None
        if masks or name in unused:
            plan.add(name, SKIPPED, value.numel())
    return state, plan


def accept_checkpoint(model: DETR, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Hook before ``load_state_dict``: converts weights of any known layout to the model's, in place.

    Published files can therefore be loaded without a conversion. The hook does not know class names;
    mapping by name is left to the runner's ``CheckpointAdapter``. Weights that already have the names
    and shapes of the model, as those from the adapter, are loaded without a message.
    """
    if prefix or _shapes(state_dict) == _shapes(model.state_dict()):
        return
    state, plan = weights_for(model, state_dict, start=False)
    if plan.notes:
        print_log('\n'.join(plan.notes), 'current')
    state_dict.clear()
    state_dict.update(state)


def _equal_heads(state: Mapping[str, Tensor]) -> list[str]:
    """A warning if a model with heads for each layer is given heads that are all equal."""
    found = {'class': 0, 'box': 0}
    for kind, last in (('class', 'weight'), ('box', 'layers.0.weight')):
        start = f'head.{kind}_branches.'
        heads = [v for n, v in state.items() if n.startswith(start) and n.endswith(f'.{last}')]
        equal = len(heads) > 1 and all(torch.equal(heads[0], head) for head in heads[1:])
        found[kind] = len(heads) if equal else 0
    if not all(found.values()):
        return []
    return [
        'WARNING: the heads of all layers are equal in the file, as in a model without box refinement, '
        'which computes something else: if it is one, use its config (deformable_detr_r50.py)'
    ]


def _shapes(state: Mapping[str, object]) -> dict[str, object]:
    return {name: getattr(value, 'shape', None) for name, value in state.items()}

"""From a checkpoint of any known layout to weights in the shapes of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.logging import print_log
from torch import Tensor, nn

from .adapt import adapt
from .convert import to_ours, unwrap
from .report import Report, listing

MASK_HEADS = ('mask_head.', 'bbox_attention.')
"""What names of mask heads begin with, in all layouts."""


def weights_for(
    model: nn.Module,
    checkpoint: Mapping,
    source: Sequence[str | None] | None = None,
    target: Sequence[str | None] | None = None,
    start: bool = True,
) -> tuple[dict[str, Tensor], Report]:
    """Weights of ``checkpoint`` by the names and in the shapes of ``model``.

    The mask head alone may be missing in the file, or be more than the model has.

    Args:
        source, target, start: as for :func:`adapt`.

    Raises:
        ValueError: as :func:`to_ours` and :func:`adapt`.
    """
    weights = unwrap(checkpoint)
    state, layout, filled = to_ours(weights, model, masks=False)
    state, report = adapt(state, model, source, target, start, filled)
    if layout != 'ours':
        report.notes.insert(0, f'layout: {layout}')
    if filled:
        report.notes.append(
            f'filled with zeros, as the layout has no such tensors: {listing(filled)}'
        )
    for name, value in weights.items():
        if name.startswith(MASK_HEADS) and model.mask_head is None:
            report.add('mask_head', 'skipped', value.numel())
    return state, report


def accept_checkpoint(
    model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Hook before ``load_state_dict``: weights of any known layout become the model's, in place.

    So a published file is loaded as it is wherever a file is. The hook sees no class names; what they
    are needed for is left to the runner's ``CheckpointAdapter``.
    """
    if prefix:
        return
    state, report = weights_for(model, state_dict, start=False)
    for note in report.notes:
        print_log(note, 'current')
    state_dict.clear()
    state_dict.update(state)

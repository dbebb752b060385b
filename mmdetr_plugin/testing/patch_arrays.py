"""Arrays of the parity cases of UP-DETR's pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..criterion import FeatureReconstructionLoss
from ..detector import DETR
from ..queries.patches import FEATURE
from ..structures import Outputs, State


def patch_arrays(
    model: DETR, state: State, outputs: Outputs, strides: Mapping[str, Any]
) -> dict[str, Tensor]:
    """What the queries get of their patches, and the features of patches and of the last layer."""
    mask, pos, hidden = state.self_mask, state.pos, outputs.layers[-1].hidden
    targets = state.branches[0].targets
    assert mask is not None and pos is not None and hidden is not None and targets is not None
    loss = model.criterion.losses['loss_feature']
    assert isinstance(loss, FeatureReconstructionLoss)
    queries, channels = strides['pred_feature']
    return {
        'updetr/query': pos[:, ::5],
        'updetr/attention_block': mask[0, 0, 0].sum(),
        'gt_feature': targets.padded_values(FEATURE)[..., ::channels],
        'pred_feature': loss.align(hidden)[:, ::queries, ::channels],
    }

"""Masks of the objects that the queries of a batch are matched with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.structures.mask import BaseInstanceMasks
from torch import Tensor
from torch.nn import functional as F

from ..structures import Targets
from .sources import Matches


def matched_masks(targets: Targets, match: Matches, device: torch.device) -> Tensor:
    """(M, H, W) bool: the masks of the last layer's matched objects on the batch's canvas.

    Raises:
        ValueError: objects without masks, or masks larger than the canvas.
    """
    height, width = targets.canvas
    rows = []
    for (_, objects), masks, labels in zip(
        match.per_image(-1), targets.masks, targets.labels, strict=True
    ):
        if masks is None and len(labels):
            raise ValueError(
                'the mask losses need gt_instances.masks, got objects without; load them '
                '(LoadAnnotations with with_mask=True, LoadPanopticSegments), or set '
                'criterion.losses.loss_mask=None and criterion.losses.loss_dice=None'
            )
        if masks is None:
            rows.append(torch.zeros(0, height, width, dtype=torch.bool, device=device))
            continue
        chosen = _as_tensor(masks, device).index_select(0, objects)
        below, right = height - chosen.shape[-2], width - chosen.shape[-1]
        if below < 0 or right < 0:
            raise ValueError(
                f'masks must fit the padded batch of {height} x {width} pixels, got '
                f'{tuple(chosen.shape[-2:])}; do not resize images without their masks'
            )
        rows.append(F.pad(chosen > 0, (0, right, 0, below)))
    return torch.cat(rows)


def _as_tensor(masks: BaseInstanceMasks | Tensor | Sequence, device: torch.device) -> Tensor:
    """(n, h, w) of mmdet's bitmap or polygon masks, or of an array."""
    if isinstance(masks, BaseInstanceMasks):
        return masks.to_tensor(torch.uint8, device)
    return torch.as_tensor(masks, device=device)

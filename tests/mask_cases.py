"""Configs with a mask head, and the gradients of their losses."""

from __future__ import annotations

from torch import Tensor, nn

JOINT, BOXES, MASKS = (f'detr_panoptic_{step}r50' for step in ('', 'boxes_', 'masks_'))
NUM_THINGS = 2


def gradients(model: nn.Module, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    out = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return out

"""One step of a shrunk model and what is compared between two of them."""

from __future__ import annotations

import tiny
import torch
from torch import Tensor, nn

FAMILIES = (
    'anchor_detr_r50',
    'conditional_detr_r50',
    'dab_detr_r50',
    'deformable_detr_two_stage_r50',
    'detr_r50',
    'sam_detr_smca_r50',
    'smca_detr_r50',
)


def loss_and_gradients(
    model: nn.Module, seed: int = 0, batch: tuple[Tensor, list] | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Of a training step with dropout."""
    model.zero_grad()
    torch.manual_seed(seed)
    with tiny.training(model):
        losses = model.loss(*(batch or tiny.batch()))
        loss = sum(value for key, value in losses.items() if 'loss' in key)
        loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def forward(model: nn.Module, *batch: object) -> dict[str, Tensor]:
    with torch.no_grad():
        return model(*(batch or tiny.batch()), mode='tensor')


def assert_outputs_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(got) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=1e-4, atol=1e-5, msg=key)

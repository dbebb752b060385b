"""RT-DETR and D-FINE of transformers with random weights, converted, have our losses and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import tiny
import torch

from mmdetr_plugin import DETR
from mmdetr_plugin.checkpoints import to_ours
from mmdetr_plugin.structures import Memory
from mmdetr_plugin.testing import peers
from mmdetr_plugin.testing.hf_training import (
    compared,
    hf_losses,
    keep_statistics_,
    total,
    train_as_transformers_,
)
from mmdetr_plugin.testing.noise import shared_hf_noise

pytestmark = pytest.mark.slow
CANVAS = (128, 128)


@pytest.fixture(autouse=True)
def double_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In single precision, rounding moves samples over borders of cells and inputs of ReLUs over 0,
    where gradients jump."""
    embed = DETR.embed

    def exact(*args: object) -> Memory:
        memory = embed(*args)
        return replace(memory, valid_ratios=memory.valid_ratios.double())

    monkeypatch.setattr(DETR, 'embed', exact)
    monkeypatch.setattr('mmdetr_plugin.ops.deformable.choose_backend', lambda value: 'grid')
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize('name', ['rt_detr_r18', 'rtdetrv2_r18', 'd_fine_s'])
def test_losses_and_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not compared, and not possible in double precision.
    monkeypatch.setattr('transformers.loss.loss_d_fine.DFineLoss.loss_local', lambda *_: {})
    peer, model = peers.hf_pair(name, small=True)
    peer.set_attn_implementation('eager')  # the other one takes no mask of another precision
    keep_statistics_(peer.double())
    train_as_transformers_(keep_statistics_(model.double()))
    images, samples = tiny.batch((3, 5), (CANVAS, CANVAS))
    for sample in samples:  # our targets are in single precision: these do not round
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.round()
    with shared_hf_noise(peer, model):
        theirs = compared(hf_losses(peer, images.double(), samples), peer)
        ours = compared(model.loss(images.double(), samples), peer)
    assert len(ours) >= 3 * 2 * peer.config.decoder_layers
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-5, atol=1e-6, msg=key)
    total(ours).backward()
    total(theirs).backward()
    named = peer.named_parameters(remove_duplicate=False)
    expected = to_ours({n: p.grad for n, p in named if p.grad is not None}, model)[0]
    largest = max(grad.norm() for grad in expected.values())
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            difference = (parameter.grad - expected[key]).norm()
            assert difference <= 1e-4 * expected[key].norm() + 1e-6 * largest, key

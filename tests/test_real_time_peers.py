"""RT-DETR of transformers with random weights, converted, has our losses and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import tiny
import torch
from torch import Tensor, nn

from mmdetr_plugin import DETR
from mmdetr_plugin.checkpoints import to_ours
from mmdetr_plugin.ops.boxes import xyxy_to_cxcywh
from mmdetr_plugin.structures import Memory
from mmdetr_plugin.testing import peers
from mmdetr_plugin.testing.golden_names import golden_terms
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


def train_(model: nn.Module) -> nn.Module:
    """Training mode, but batch norms keep their statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def labels_of(samples: list) -> list[dict[str, Tensor]]:
    scale = torch.tensor(CANVAS[::-1] * 2)
    return [
        {
            'class_labels': sample.gt_instances.labels,
            'boxes': xyxy_to_cxcywh(sample.gt_instances.bboxes / scale),
        }
        for sample in samples
    ]


@pytest.mark.parametrize('name', ['rt_detr_r18', 'rtdetrv2_r18'])
def test_losses_and_gradients(name: str) -> None:
    peer, model = peers.hf_pair(name, small=True)
    peer.set_attn_implementation('eager')  # the other one takes no mask of another precision
    train_(peer.double())
    train_(model.double())
    model.head.refine = 'iterative'  # theirs does not look forward twice: other gradients, same values
    images, samples = tiny.batch((3, 5), (CANVAS, CANVAS))
    for sample in samples:  # our targets are in single precision: these do not round
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.round()
    with shared_hf_noise(peer, model):
        theirs = peer(pixel_values=images.double(), labels=labels_of(samples))
        ours = model.loss(images.double(), samples)
    layers = len(model.decoder.layers)
    terms = {key: value for key, value in ours.items() if 'loss' in key}
    assert len(terms) == len(theirs.loss_dict)
    for key, value in terms.items():
        (known,) = set(golden_terms(key, layers)) & set(theirs.loss_dict)
        torch.testing.assert_close(value, theirs.loss_dict[known], rtol=1e-5, atol=1e-6, msg=key)
    total = sum(terms.values())
    torch.testing.assert_close(total, theirs.loss, rtol=1e-5, atol=1e-5)
    total.backward()
    theirs.loss.backward()
    grads = {
        n: p.grad for n, p in peer.named_parameters(remove_duplicate=False) if p.grad is not None
    }
    expected = to_ours(grads, model)[0]
    largest = max(grad.norm() for grad in expected.values())
    for key, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        difference = (parameter.grad - expected[key]).norm()
        assert difference <= 1e-4 * expected[key].norm() + 1e-6 * largest, key

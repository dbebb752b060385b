"""Switches that change the cost of a step and not its result: docs/training.md."""

from __future__ import annotations

import copy

import pytest
import tiny
import torch
from mmcv.cnn import fuse_conv_bn
from torch import Tensor, nn

from mmdetr_plugin.backbone import FoldedConv2d, FoldedNorm
from mmdetr_plugin.registry import MODELS

FAMILIES = (
    'anchor_detr_r50',
    'conditional_detr_r50',
    'dab_detr_r50',
    'deformable_detr_two_stage_r50',
    'detr_r50',
    'sam_detr_smca_r50',
    'smca_detr_r50',
)


def loss_and_gradients(model: nn.Module, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Of a training step with dropout."""
    model.zero_grad()
    torch.manual_seed(seed)
    with tiny.training(model):
        losses = model.loss(*tiny.batch())
        loss = sum(value for key, value in losses.items() if 'loss' in key)
        loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def forward(model: nn.Module, *batch: object) -> dict[str, Tensor]:
    with torch.no_grad():
        return model(*(batch or tiny.batch()), mode='tensor')


def set_everywhere(model: nn.Module, kind: type[nn.Module], **values: object) -> None:
    for module in model.modules():
        if isinstance(module, kind):
            for name, value in values.items():
                setattr(module, name, value)


# ---- gradient checkpointing ---------------------------------------------------------------------


@pytest.mark.parametrize('name', FAMILIES)
def test_checkpointing_changes_no_gradient(name: str) -> None:
    model = tiny.build(name)
    set_everywhere(model, nn.Dropout, p=0.1)
    dropped = [m for m in model.modules() if isinstance(getattr(m, 'dropout', None), float)]
    for module in dropped:
        module.dropout = 0.1
    loss, gradients = loss_and_gradients(model)
    assert not torch.equal(loss, loss_and_gradients(model, seed=1)[0])  # dropout is at work
    model.encoder.with_cp = model.decoder.with_cp = True
    again, recomputed = loss_and_gradients(model)
    assert torch.equal(again, loss)
    assert set(recomputed) == set(gradients)
    for key, value in gradients.items():
        torch.testing.assert_close(recomputed[key], value, msg=key)


def test_checkpointing_keeps_less_for_the_backward_pass() -> None:
    kept = {}
    for with_cp in (False, True):
        model = tiny.build('detr_r50')
        model.encoder.with_cp = model.decoder.with_cp = with_cp
        sizes: list[int] = []
        images, samples = tiny.batch()
        memory = model.embed(model.extract_feat(images), samples, tiny.CANVAS)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
        ):
            model.transform(memory)
        kept[with_cp] = sum(sizes)
    assert kept[True] < 0.5 * kept[False]


@pytest.mark.parametrize('part', ['encoder', 'decoder'])
def test_checkpointing_is_an_argument(part: str) -> None:
    model = tiny.shrink(tiny.load('detr_r50').model)
    model[part].with_cp = True
    assert getattr(MODELS.build(model), part).with_cp


# ---- the backbone -------------------------------------------------------------------------------


def assert_outputs_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(got) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_channels_last_changes_no_result() -> None:
    model, other = tiny.build('detr_r50'), tiny.build('detr_r50', channels_last=True)
    weight = other.backbone.layer2[0].conv2.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    assert_outputs_equal(forward(other), forward(model))
    other.load_state_dict(model.state_dict())  # keeps the format
    assert not weight.is_contiguous()
    loss, gradients = loss_and_gradients(model)
    again, others = loss_and_gradients(other)
    torch.testing.assert_close(again, loss)
    for key, value in gradients.items():
        torch.testing.assert_close(others[key], value, rtol=1e-3, atol=1e-5, msg=key)


def backbones() -> tuple[nn.Module, nn.Module]:
    """A backbone with trained norms that folds them, and one that is the same but does not."""
    folded = tiny.build('detr_r50').backbone
    for i, module in enumerate(folded.modules()):
        if isinstance(module, nn.BatchNorm2d):
            generator = torch.Generator().manual_seed(i)
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    plain = copy.deepcopy(folded)
    for module in plain.modules():
        kind = {FoldedConv2d: nn.Conv2d, FoldedNorm: nn.BatchNorm2d}.get(type(module))
        module.__class__ = kind or type(module)
    return folded, plain


@pytest.mark.parametrize('trained', [False, True])
def test_folded_norms_change_no_result(trained: bool) -> None:
    """Norms that are not trained, and those that are but keep their statistics."""
    folded, plain = backbones()
    assert len([m for m in folded.modules() if type(m) is FoldedNorm]) == 20
    assert list(folded.state_dict()) == list(plain.state_dict())
    images = tiny.batch()[0]
    results = []
    for backbone in (folded, plain):
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(trained)
        backbone.train()
        (out,) = backbone(images)
        out.square().sum().backward()
        results.append((out, {n: p.grad for n, p in backbone.named_parameters()}))
    (got, grads), (expected, plain_grads) = results
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert trained == (plain_grads['layer2.0.bn1.weight'] is not None)
    for name, grad in plain_grads.items():
        if grad is not None:
            torch.testing.assert_close(grads[name], grad, rtol=1e-3, atol=1e-4, msg=name)


def test_norms_that_learn_statistics_are_not_folded() -> None:
    folded, plain = backbones()
    images = tiny.batch()[0]
    outs = []
    for backbone in (folded, plain):
        backbone.norm_eval = False
        backbone.train()
        outs.append(backbone(images)[0])
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-3, atol=1e-4)
    moved = [b.layer2[0].bn1.running_mean for b in (folded, plain)]
    torch.testing.assert_close(*moved, rtol=1e-3, atol=1e-4)
    assert folded.layer2[0].bn1.num_batches_tracked == 1


def test_folded_norms_can_be_fused_for_good() -> None:
    folded, plain = backbones()
    images = tiny.batch()[0]
    expected = plain(images)
    fused = fuse_conv_bn(folded)
    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    torch.testing.assert_close(fused(images), expected, rtol=1e-4, atol=1e-5)

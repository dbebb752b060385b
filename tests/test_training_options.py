"""Switches that change the cost of a step and not its result: docs/training.md."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import tiny
import tiny_run
import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.config import DictAction
from mmengine.hooks import EMAHook
from steps import FAMILIES, assert_outputs_equal, forward, loss_and_gradients
from torch import nn

from mmdetr_plugin.attention.base import clamp_to_dtype
from mmdetr_plugin.ops.folding import FoldedConv2d, FoldedNorm
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.testing import given_features


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
        maps = model.extract_feat(images)
        with (
            given_features(model, maps),
            torch.autograd.graph.saved_tensors_hooks(
                lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
            ),
        ):
            model.run(images, samples)
        kept[with_cp] = sum(sizes)
    assert kept[True] < 0.5 * kept[False]


@pytest.mark.parametrize('part', ['encoder', 'decoder'])
def test_checkpointing_is_an_argument(part: str) -> None:
    model = tiny.shrink(tiny.load('detr_r50').model)
    model[part].with_cp = True
    assert getattr(MODELS.build(model), part).with_cp


# ---- the backbone -------------------------------------------------------------------------------


def test_channels_last_changes_no_result() -> None:
    model, other = tiny.build('detr_r50', channels_last=False), tiny.build('detr_r50')
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


def test_norms_that_are_replaced_do_their_own_work() -> None:
    folded, plain = backbones()
    images = tiny.batch()[0]
    expected = plain.train()(images)
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(folded).train()
    assert len([m for m in synchronised.modules() if isinstance(m, nn.SyncBatchNorm)]) == 20
    torch.testing.assert_close(synchronised(images), expected, rtol=1e-4, atol=1e-5)


# ---- precision and averaged weights -------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', FAMILIES)
def test_mixed_precision_on_the_gpu(name: str, dtype: torch.dtype) -> None:
    model = tiny.build(name).cuda()
    images, samples = tiny.batch()
    samples = [sample.cuda() for sample in samples]
    model.encoder.with_cp = model.decoder.with_cp = True
    scaler = torch.amp.GradScaler('cuda', enabled=dtype == torch.float16)
    with tiny.training(model):
        with torch.autocast('cuda', dtype):
            outputs = model(images.cuda(), samples, mode='tensor')
            losses = model.loss(images.cuda(), samples)
        assert outputs['pred_boxes'].dtype == torch.float32
        scaler.scale(sum(v for k, v in losses.items() if 'loss' in k)).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), key


def test_a_far_gaussian_leaves_attention_finite_in_half_precision() -> None:
    bias = torch.full((1, 1, 2, 3), -1e6)
    assert clamp_to_dtype(bias, torch.float16).isfinite().all()
    assert torch.equal(clamp_to_dtype(bias, torch.bfloat16), bias.bfloat16())


def test_averaged_weights_with_frozen_parts(tmp_path: Path) -> None:
    cfg = tiny_run.config(tiny_run.make_data(tmp_path / 'data'), tmp_path / 'work', epochs=1)
    cfg.model.frozen_parts = ('backbone',)
    runner = tiny_run.train(cfg, 'averaged_with_frozen_parts')
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, EMAHook))
    average = dict(hook.ema_model.module.named_parameters())
    assert not any(parameter.requires_grad for parameter in average.values())
    same = {n for n, p in runner.model.named_parameters() if torch.equal(p, average[n])}
    assert {n for n in average if n.startswith('backbone.')} <= same
    assert not [n for n in same if 'norm.weight' in n and n.startswith('decoder.layers')]


# ---- docs/training.md ---------------------------------------------------------------------------


def options() -> list[str]:
    page = (tiny.ROOT / 'docs' / 'training.md').read_text(encoding='utf-8')
    return re.findall(r'^\|.*\| `(model\..*)` \|$', page, re.MULTILINE)


@pytest.mark.parametrize('line', options())
def test_options_of_the_page_build_a_model(line: str) -> None:
    cfg = tiny.load('detr_r50')
    values = dict(option.split('=', 1) for option in line.split())
    before = copy.deepcopy(cfg.model)
    cfg.merge_from_dict({k: DictAction._parse_iterable(v) for k, v in values.items()})
    assert cfg.model != before
    MODELS.build(tiny.shrink(cfg.model))


def test_the_page_has_options() -> None:
    assert len(options()) == 3

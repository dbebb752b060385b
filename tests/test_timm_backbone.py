"""A backbone of timm's, with a stand-in where the library is not needed to test ours."""

from __future__ import annotations

import sys

import pytest
import tiny
import torch
from tiny_timm import install
from torch import nn

from mmdetr_plugin.registry import MODELS


@pytest.mark.parametrize('name', ['first', 'last'])
def test_maps_have_their_channels_first(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of timm's transformers give (B, H, W, C)."""
    install(monkeypatch)
    backbone = MODELS.build(
        {'type': 'TimmBackbone', 'model_name': name, 'out_indices': (2, 3), 'in_chans': 3}
    )
    maps = backbone(torch.zeros(2, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(2, 12, 8, 12), (2, 16, 4, 6)]
    assert all(x.is_contiguous() for x in maps)


@pytest.mark.parametrize('norm_eval', [True, False])
def test_norms_keep_their_statistics(norm_eval: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    backbone = MODELS.build(
        {'type': 'TimmBackbone', 'model_name': 'first', 'norm_eval': norm_eval}
    ).train()
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(norm.training is not norm_eval for norm in norms)


def test_a_detector_trains_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights stay those of timm when the runner initialises the model."""
    install(monkeypatch)
    cfg = tiny.shrink(tiny.load('detr_r50').model)
    cfg.backbone = {'type': 'TimmBackbone', 'model_name': 'last', 'out_indices': (4,)}
    model = MODELS.build(cfg).train()
    before = [p.clone() for p in model.backbone.parameters()]
    model.init_weights()
    assert all(p.equal(q) for p, q in zip(model.backbone.parameters(), before))
    losses = model.loss(*tiny.batch())
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert all(p.grad is not None for p in model.backbone.parameters())


def test_missing_timm_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ImportError, match=r'TimmBackbone must import timm, got: .*; pip install'):
        MODELS.build({'type': 'TimmBackbone', 'model_name': 'resnet18'})

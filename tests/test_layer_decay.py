"""Rates and weight decay of the blocks of a backbone, which fall from the last one to the first."""

from __future__ import annotations

import pytest
import tiny
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from mmdetr_plugin.registry import MODELS

BASE, ENCODER, COMPONENT, DECAY = 1e-4, 1.5e-4, 0.7, 1e-4


def groups_of(name: str, backbone: dict | None = None) -> dict[str, dict]:
    """The optimizer's options of every trained parameter of a config, or one with another backbone."""
    cfg = tiny.load(name)
    model = MODELS.build(tiny.shrink(cfg.model))
    if backbone is not None:
        cfg.optim_wrapper.constructor = 'LayerDecayConstructor'
        cfg.optim_wrapper.paramwise_cfg.layer_decay = dict(rate=0.5)
        model.backbone = MODELS.build(backbone)
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group for group in optimizer.param_groups for p in group['params']}


@pytest.mark.parametrize(
    ('name', 'rate', 'layers', 'last'),
    [
        ('lw_detr_tiny', 0.8, 6, 5),
        ('lw_detr_small', 0.8, 10, 9),
        ('lw_detr_medium', 0.7, 10, 9),
        ('rf_detr_nano', 0.8, 13, 11),
        ('rf_detr_base', 0.8, 12, 10),
    ],
)
def test_rates_are_the_published_ones(name: str, rate: float, layers: int, last: int) -> None:
    groups = groups_of(name)
    encoder = ENCODER * COMPONENT**2

    def lr(parameter: str) -> float:
        return groups[parameter]['lr']

    for i in (0, 1, last):
        for part in ('attn.qkv.weight', 'norm1.weight', 'mlp.linear2.bias', 'gamma_1'):
            expected = encoder * rate ** (layers - i)
            assert lr(f'backbone.blocks.{i}.{part}') == pytest.approx(expected)
    for part in ('patch_embed.weight', 'patch_embed.bias', 'pos_embed'):
        assert lr(f'backbone.{part}') == pytest.approx(encoder * rate ** (layers + 1))
    assert f'backbone.blocks.{last + 1}.gamma_1' not in groups
    if name.startswith('rf'):
        assert lr('backbone.norm.weight') == pytest.approx(encoder)
    assert lr('decoder.layers.0.ffn.linear1.weight') == pytest.approx(BASE * COMPONENT)
    assert lr('decoder.query_position.position.layers.0.bias') == pytest.approx(BASE * COMPONENT)
    for others in ('neck.levels.0.norm.weight', 'head.class_branches.0.bias'):
        assert lr(others) == pytest.approx(BASE)


@pytest.mark.parametrize(
    ('name', 'gamma', 'patches'), [('lw_detr_tiny', 0, 1), ('rf_detr_nano', 1, 0)]
)
def test_weight_decay_is_the_published_one(name: str, gamma: int, patches: int) -> None:
    groups = groups_of(name)
    expected = {
        'backbone.blocks.0.attn.qkv.weight': 1,
        'backbone.blocks.0.attn.proj.bias': 0,
        'backbone.blocks.0.norm2.weight': 0,
        'backbone.blocks.0.gamma_2': gamma,
        'backbone.pos_embed': 0,
        'backbone.patch_embed.weight': patches,
        'backbone.patch_embed.bias': 0,
        'neck.levels.0.norm.bias': 1,
        'decoder.norm.weight': 1,
    }
    assert {key: groups[key]['weight_decay'] / DECAY for key in expected} == expected


SWIN = dict(
    type='mmdet.SwinTransformer',
    embed_dims=8,
    depths=(2, 1, 3),
    num_heads=(1, 1, 1),
    strides=(4, 2, 2),
    out_indices=(1, 2),
    window_size=2,
)


def assert_rates(
    groups: dict[str, dict], last: float, above: dict[str, int], decaying: tuple[str, ...]
) -> None:
    """Rates by the number of blocks ``above``; names with a part of ``decaying`` decay."""
    for name, number in above.items():
        group = groups[f'backbone.{name}']
        assert group['lr'] == pytest.approx(last * 0.5**number), name
        assert (group['weight_decay'] > 0) == any(part in name for part in decaying), name


def test_blocks_of_swin_are_counted_through_its_stages() -> None:
    groups = groups_of('dino_r50', SWIN)
    expected = {
        'norm2.weight': 0,
        'stages.2.blocks.2.attn.w_msa.qkv.weight': 1,
        'stages.2.blocks.0.ffn.layers.1.bias': 3,
        'stages.1.downsample.reduction.weight': 3,
        'stages.1.blocks.0.norm1.weight': 4,
        'stages.0.blocks.0.attn.w_msa.relative_position_bias_table': 6,
        'patch_embed.projection.weight': 7,
    }
    assert_rates(groups, 1e-4 * 0.1, expected, ('qkv', 'reduction', 'projection'))
    assert groups['neck.convs.0.conv.weight']['lr'] == 1e-4


def test_blocks_of_a_resnet_are_counted_through_its_stages() -> None:
    groups = groups_of(
        'detr_r50', dict(type='mmdet.ResNet', depth=18, frozen_stages=-1, norm_eval=False)
    )
    expected = {
        'conv1.weight': 9,
        'bn1.weight': 9,
        'layer1.0.conv1.weight': 8,
        'layer4.1.bn2.bias': 1,
    }
    assert_rates(groups, 1e-5, expected, ('conv',))


def test_errors_name_the_remedy() -> None:
    wrapper = tiny.load('lw_detr_tiny').optim_wrapper
    model = nn.Module()
    model.backbone = nn.Linear(2, 2)
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        with pytest.raises(ValueError, match=r'must be one of .*ResNet.*, got Linear; leave out'):
            build_optim_wrapper(model, wrapper)
        del wrapper.paramwise_cfg.layer_decay
        with pytest.raises(ValueError, match=r'must have layer_decay=dict\(rate=...\)'):
            build_optim_wrapper(model, wrapper)

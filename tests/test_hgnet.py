"""HGNetV2: its maps, what is frozen, and the same outputs as transformers' own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmdetr_plugin.backbones import HGNetV2, map_channels
from mmdetr_plugin.testing import peers


def test_maps_have_the_stated_channels_and_strides() -> None:
    backbone = HGNetV2(width=0.125, out_indices=(0, 1, 3))
    maps = backbone(torch.randn(1, 3, 64, 96))
    assert [x.shape[1] for x in maps] == map_channels(backbone) == [8, 32, 128]
    assert [x.shape[-2:] for x in maps] == [(16, 24), (8, 12), (2, 3)]


def test_affine_blocks_follow_activations_alone() -> None:
    with_blocks, without = (HGNetV2(width=0.125, affine=affine) for affine in (True, False))
    names = {name for name, _ in with_blocks.named_parameters()}
    assert names - {name for name, _ in without.named_parameters()} == {
        name for name in names if '.lab.' in name
    }
    assert 'stages.1.downsample.lab.scale' not in names
    assert 'stages.2.blocks.0.layers.0.conv1.lab.scale' not in names
    assert 'stages.2.blocks.0.layers.0.conv2.lab.scale' in names


@pytest.mark.parametrize('stages', [-1, 0, 2])
def test_frozen_parts_keep_their_weights_and_statistics(stages: int) -> None:
    backbone = HGNetV2(width=0.125, frozen_stages=stages, frozen_norms=stages == 0).train()
    parts = [backbone.stem, *backbone.stages]
    for i, part in enumerate(parts):
        trained = [p for p in part.parameters() if p.requires_grad]
        assert bool(trained) == (i > stages)
        norms = [m for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
        assert [norm.training for norm in norms] == [i > stages and stages != 0] * len(norms)


@pytest.mark.parametrize(
    ('options', 'message'),
    [({'arch': 'B9'}, 'arch'), ({'out_indices': (4,)}, 'out_indices'), ({'width': 0.1}, 'width')],
)
def test_bad_input(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HGNetV2(**options)


@pytest.mark.slow
@pytest.mark.parametrize('arch', ['B0', 'B2', 'B4', 'B5'])
def test_transformers_gives_the_same_maps(arch: str) -> None:
    import transformers
    from mmengine.config import ConfigDict

    cfg = ConfigDict(arch=arch, affine=arch < 'B3', frozen_norms=False, out_indices=(1, 2, 3))
    peer = transformers.HGNetV2Backbone(peers.hgnet_options(cfg)['backbone_config']).eval()
    peers.randomise_(peer)
    new = (('embedder.', 'stem.'), ('encoder.stages', 'stages'))
    new += (('convolution', 'conv'), ('normalization', 'bn'))
    state = peer.state_dict()
    for theirs, ours in new:
        state = {name.replace(theirs, ours): value for name, value in state.items()}
    backbone = HGNetV2(arch, affine=arch < 'B3').eval()
    backbone.load_state_dict(state)
    images = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        for ours, theirs in zip(backbone(images), peer(images).feature_maps, strict=True):
            assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()

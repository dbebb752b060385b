"""The official RT-DETR and RTDETRv2: files hold the averaged weights under ``ema.module``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .common import COMMON
from .layout import Layout, Names, Target
from .official import LAYER
from .registry import register

if TYPE_CHECKING:
    from mmdet.models.necks import ChannelMapper

    from ...backbones.resnet_vd import ResNetVD
    from ...detector import DETR
    from ...heads.set_head import SetHead
    from ...transformer.hybrid_encoder import HybridEncoder

OF_SIZE = ('decoder.anchors', 'decoder.valid_mask')
"""Constants that follow from the size of the picture: later models keep them in their files."""


def without_sizes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name not in OF_SIZE}


def scales(
    model: DETR, name: str = 'decoder.decoder.layers.{}.cross_attn.num_points_scale'
) -> dict[str, Tensor]:
    """1 / points of the level for every sampling point of a head, in each decoder layer."""
    return {
        name.format(i): torch.cat([torch.full((n,), 1 / n) for n in layer.cross_attn.points])
        for i, layer in enumerate(model.decoder.layers)
    }


class VDNames(NamedTuple):
    """Names of the parts of a ResNet-vd; {i} is a number, {s} that of a stage, {b} of a block.

    In the first block of a later stage, the convolution of the shortcut stands behind a pooling.
    """

    stem: str = 'conv1.conv1_{n}.'
    block: str = 'res_layers.{s}.blocks.{b}.'
    branches: tuple[str, ...] = ('branch2a.', 'branch2b.', 'branch2c.')
    short: str = 'short.'
    pooled: str = 'short.conv.'
    conv: str = 'conv.'
    norm: str = 'norm.'


OFFICIAL_VD = VDNames()


def vd(part: ResNetVD, names: VDNames = OFFICIAL_VD) -> Names:
    """Names of the backbone's convolutions and norms."""
    pairs = {}
    for i in range(3):
        pairs[f'stem.{3 * i}.', f'stem.{3 * i + 1}.'] = names.stem.format(n=i + 1, i=i)
    for stage, layer in enumerate(part.res_layers):
        for number, block in enumerate(getattr(part, layer)):
            ours, theirs = f'{layer}.{number}.', names.block.format(s=stage, b=number)
            for i in range(3 if hasattr(block, 'conv3') else 2):
                pairs[f'{ours}conv{i + 1}.', f'{ours}bn{i + 1}.'] = theirs + names.branches[i]
            if block.downsample is not None:
                last = len(block.downsample) - 1
                short = names.pooled if stage else names.short
                pair = f'{ours}downsample.{last - 1}.', f'{ours}downsample.{last}.'
                pairs[pair] = theirs + short
    kinds = (names.conv, names.norm)
    return {name: at + kind for pair, at in pairs.items() for name, kind in zip(pair, kinds)}


def hybrid(part: HybridEncoder) -> Names:
    names: dict[str, Target] = {
        'attention.layers.': '/encoder.encoder.0.layers.',
        'lateral.': '/encoder.lateral_convs.',
        'top_down.': '/encoder.fpn_blocks.',
        'downsample.': '/encoder.downsample_convs.',
        'bottom_up.': '/encoder.pan_blocks.',
        'projections.': '/decoder.input_proj.',
    }
    return names


def neck_v1(neck: ChannelMapper) -> Names:
    return of_neck(neck, '/encoder.input_proj.{}.0.', '/encoder.input_proj.{}.1.')


def neck_v2(neck: ChannelMapper) -> Names:
    return of_neck(neck, '/encoder.input_proj.{}.conv.', '/encoder.input_proj.{}.norm.')


def of_neck(neck: ChannelMapper, conv: str, norm: str) -> Names:
    """By the place of the convolution and of the norm of level ``{}``."""
    names: dict[str, Target] = {}
    for i in range(len(neck.convs)):
        names[f'convs.{i}.conv.'] = conv.format(i)
        names[f'convs.{i}.bn.'] = norm.format(i)
    return names


def heads(part: SetHead) -> Names:
    names: dict[str, Target] = {}
    own = len(part.class_branches) - part.encoder
    for ours, theirs in (('class', 'score'), ('box', 'bbox')):
        for i in range(own):
            names[f'{ours}_branches.{i}.'] = f'/decoder.dec_{theirs}_head.{i}.'
        names[f'{ours}_branches.{own}.'] = f'/decoder.enc_{theirs}_head.'
    return names


RT_DETR = register(
    Layout(
        'rt_detr',
        base=COMMON,
        origin='official',
        marks=('decoder.enc_output.',),
        from_file=without_sizes,
        counters=True,
        parts={
            'DETR': {'decoder.': '/decoder.decoder.'},
            'ResNetVD': vd,
            'ChannelMapper': neck_v1,
            'ConvModule': {'bn.': 'norm.'},
            'HybridEncoder': hybrid,
            'CSPRepBlock': {'blocks.': 'bottlenecks.'},
            'RepVGGBlock': {'conv3.': 'conv1.', 'conv1.': 'conv2.'},
            'EncoderLayer': {**LAYER, 'ffn_out.norm.': 'norm2.'},
            'DecoderLayer': LAYER,
            'MLPPosition': {'mlp.': '/decoder.query_pos_head.'},
            'DenoisingQueries': {'labels.': '/decoder.denoising_class_embed.'},
            'EncoderProposals': {
                'output.': '/decoder.enc_output.0.',
                'output_norm.': '/decoder.enc_output.1.',
            },
            'SetHead': heads,
        },
    )
)

RT_DETR_V2 = register(
    Layout(
        'rt_detr_v2',
        base=RT_DETR,
        constants=scales,
        parts={
            'ChannelMapper': neck_v2,
            'EncoderProposals': {
                'output.': '/decoder.enc_output.proj.',
                'output_norm.': '/decoder.enc_output.norm.',
            },
        },
    )
)

"""The official DEIMv2, by its own names or as safetensors, which hold what is tied once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from ...ops.rotary import rotary_periods
from .d_fine import D_FINE
from .hf import tie_
from .layout import Layout, Names, Target
from .official import LAYER
from .registry import register
from .rt_detr import of_neck, scales, without_sizes

if TYPE_CHECKING:
    from mmdet.models.necks import ChannelMapper

    from ...backbones import SpatialTuningAdapter
    from ...detector import DETR

VIT = 'backbone.dinov3._model.'
INSIDE = 'decoder.decoder.'


def from_file(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    out = without_sizes(state)
    for name in ('up', 'reg_scale'):
        tie_(out, INSIDE + name, f'decoder.{name}')
        tie_(out, f'decoder.{name}', INSIDE + name)
    return out


def constants(model: DETR) -> dict[str, Tensor]:
    """As RTDETRv2's, and the periods of the rotary codes."""
    vit = model.backbone.vit
    return {
        **scales(model),
        f'{VIT}rope_embed.periods': rotary_periods(vit.head_dims, vit.rotary_base),
    }


def neck(part: ChannelMapper) -> Names:
    return of_neck(part, '/backbone.convs.{}.', '/backbone.norms.{}.')


def adapter(part: SpatialTuningAdapter) -> Names:
    """Each place is a sequence; an activation comes before the convolution in later ones."""
    names: dict[str, Target] = {
        'vit.': 'dinov3._model.',
        'stem.conv.': 'sta.stem.0.',
        'stem.bn.': 'sta.stem.1.',
    }
    for i in range(len(part.stages)):
        names[f'stages.{i}.conv.'] = f'sta.conv{i + 2}.{min(i, 1)}.'
        names[f'stages.{i}.bn.'] = f'sta.conv{i + 2}.{min(i, 1) + 1}.'
    return names


DEIMV2 = register(
    Layout(
        'deimv2',
        base=D_FINE,
        marks=('backbone.sta.', 'decoder.dec_bbox_head.'),
        from_file=from_file,
        constants=constants,
        parts={
            'SpatialTuningAdapter': adapter,
            'WindowedViT': {'class_token': 'cls_token', 'patch_embed.': 'patch_embed.proj.'},
            'ViTBlock': {'mlp.linear1.': 'mlp.fc1.', 'mlp.linear2.': 'mlp.fc2.'},
            'ChannelMapper': neck,
            'DecoderLayer': {
                **LAYER,
                'cross_attn_out.norm.': 'gateway.norm.',
                'cross_attn_out.': 'gateway.',
                'ffn.': 'swish_ffn.',
            },
            'GatedFeedForward': {'enter.': 'w12.', 'leave.': 'w3.'},
            'RMSNorm': {'weight': 'scale'},
        },
    )
)

"""transformers: ``DFineForObjectDetection``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from .hf_rt_detr import HF_RT_DETR, INSIDE, from_file, heads
from .layout import Layout, Names, Target
from .registry import register
from .rt_detr import scales

if TYPE_CHECKING:
    from ...heads.distribution_head import DistributionHead


def of_d_fine(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a file by the names of the model, whose feed-forward parts are numbered."""
    return {_numbered(name): value for name, value in from_file(state, twice=True).items()}


def _numbered(name: str) -> str:
    return re.sub(r'\.mlp\.fc([12])\.', lambda found: f'.mlp.layers.{int(found[1]) - 1}.', name)


def distributions(part: DistributionHead) -> Names:
    names: dict[str, Target] = {
        'initial.': f'/{INSIDE}pre_bbox_head.',
        'reach': f'/{INSIDE}up',
        'scale': f'/{INSIDE}reg_scale',
    }
    for i in range(len(part.quality)):
        names[f'quality.{i}.mlp.'] = f'/{INSIDE}lqe_layers.{i}.reg_conf.'
    return names


HF_D_FINE = register(
    Layout(
        'hf_d_fine',
        base=HF_RT_DETR,
        official='d_fine',
        marks=(*HF_RT_DETR.marks, f'{INSIDE}lqe_layers.'),
        from_file=of_d_fine,
        constants=partial(scales, name=INSIDE + 'layers.{}.encoder_attn.num_points_scale'),
        parts={
            'HGNetV2': {'stem.': 'embedder.', 'stages.': 'encoder.stages.'},
            'ConvNorm': {'conv.': 'convolution.', 'bn.': 'normalization.'},
            'RepNCSPELAN4': {
                'enter.': 'conv1.',
                'first.0.': 'csp_rep1.',
                'first.1.': 'conv2.',
                'second.0.': 'csp_rep2.',
                'second.1.': 'conv3.',
                'leave.': 'conv4.',
            },
            'SeparableDownsample': {'0.': 'conv1.', '1.': 'conv2.'},
            'FeedForward': {'linear1.': 'layers.0.', 'linear2.': 'layers.1.'},
            'DecoderLayer': {
                'self_attn_out.norm.': 'self_attn_layer_norm.',
                'cross_attn.': 'encoder_attn.',
                'cross_attn_out.': 'gateway.',
                'ffn.': 'mlp.',
                'ffn_out.norm.': 'final_layer_norm.',
            },
            'SetHead': partial(heads, twice=True),
            'DistributionHead': distributions,
        },
    )
)

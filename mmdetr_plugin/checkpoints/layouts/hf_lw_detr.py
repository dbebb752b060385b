"""transformers: ``LwDetrForObjectDetection`` and ``RfDetrForObjectDetection``.

``save_pretrained`` writes RF-DETR by the names of the official repository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from .hf import HF
from .layout import Layout, Names, Target
from .lw_detr import c2f, groups, heads, mask_token, proposals
from .registry import register

if TYPE_CHECKING:
    from ...necks.projector import MultiScaleProjector

RENAMED = (
    (r'attention\.attention\.query\.', 'attention.q_proj.'),
    (r'attention\.attention\.key\.', 'attention.k_proj.'),
    (r'attention\.attention\.value\.', 'attention.v_proj.'),
    (r'attention\.output\.', 'attention.o_proj.'),
)
"""What the parts of LW-DETR's ViT are called in files, and in the model."""


def names_of_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    out = {}
    for name, value in state.items():
        for pattern, new in RENAMED:
            name = re.sub(pattern, new, name)
        out[name] = value
    return out


def projector(part: MultiScaleProjector, level: str = 'scale_layers.{}.') -> Names:
    names: dict[str, Target] = {}
    for i in range(len(part.levels)):
        place = level.format(i)
        names[f'levels.{i}.block.'] = f'{place}projector_layer.'
        names[f'levels.{i}.norm.'] = f'{place}layer_norm.'
        for j in range(part.num_maps):
            names[f'levels.{i}.resize.{j}.'] = f'{place}sampling_layers.{j}.layers.0.'
    return names


ATTENTION: dict[str, Target] = {
    'attn.qkv.': [f'attention.{x}_proj.' for x in 'qkv'],
    'attn.proj.': 'attention.o_proj.',
}

HF_LW_DETR = register(
    Layout(
        'hf_lw_detr',
        base=HF,
        official='lw_detr',
        marks=('model.backbone.projector.scale_layers.',),
        from_file=names_of_model,
        counters=True,
        parts={
            'DETR': {
                'backbone.': '/model.backbone.backbone.',
                'neck.': '/model.backbone.projector.',
                'decoder.': '/model.decoder.',
            },
            'WindowedViT': {
                'pos_embed': 'embeddings.position_embeddings',
                'patch_embed.': 'embeddings.projection.',
                'blocks.': 'encoder.layer.',
            },
            'ViTBlock': {
                **ATTENTION,
                'attn.q_bias': 'attention.q_proj.bias',
                'attn.v_bias': 'attention.v_proj.bias',
                'norm1.': 'layernorm_before.',
                'norm2.': 'layernorm_after.',
                'mlp.': 'intermediate.',
            },
            'MultiScaleProjector': projector,
            'C2f': partial(c2f, convolution='conv', chain='bottlenecks'),
            'ConvModule': {'bn.': 'norm.', 'ln.': 'norm.'},
            'DecoderLayer': {
                'self_attn_out.norm.': 'self_attn_layer_norm.',
                'cross_attn_out.norm.': 'cross_attn_layer_norm.',
                'ffn.': 'mlp.',
                'ffn_out.norm.': 'layer_norm.',
            },
            'GroupQueries': partial(groups, root='/model.', shift='reference_point_embed'),
            'EncoderProposals': partial(proposals, root='/model.'),
            'SetHead': partial(heads, root='/model.'),
        },
    )
)

register(
    Layout(
        'hf_rf_detr',
        base=HF_LW_DETR,
        official='rf_detr',
        marks=('model.backbone.projector.projector_layer.',),
        constants=partial(mask_token, name='model.backbone.backbone.embeddings.mask_token'),
        parts={
            'WindowedViT': {
                'class_token': 'embeddings.cls_token',
                'pos_embed': 'embeddings.position_embeddings',
                'patch_embed.': 'embeddings.patch_embeddings.projection.',
                'blocks.': 'encoder.layer.',
                'norm.': 'layernorm.',
            },
            'ViTBlock': {
                **ATTENTION,
                'gamma_1': 'layer_scale1.lambda1',
                'gamma_2': 'layer_scale2.lambda1',
            },
            'MultiScaleProjector': partial(projector, level=''),
        },
    )
)

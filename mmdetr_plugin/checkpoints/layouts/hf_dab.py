"""transformers: ``DabDetrForObjectDetection``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .hf import BACKBONE, attention, name_in_timm, tie_
from .hf_detr import HF_DETR
from .layout import ABSENT, Layout
from .registry import register


def from_file(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a file by the names of the model, which has ``_backbone`` in that of a timm ResNet."""
    pattern = rf'^{BACKBONE}(?!_backbone\.)'
    out = {re.sub(pattern, r'\1_backbone.', name_in_timm(n)): v for n, v in state.items()}
    tie_(out, 'bbox_predictor.', 'model.decoder.bbox_embed.')
    tie_(out, 'model.decoder.bbox_embed.', 'bbox_predictor.')
    return out


def decoupled(kind: str) -> dict[str, str]:
    names = ('query_content', 'query_pos', 'key_content', 'key_pos', 'value')
    return {
        **{f'{name}.': f'{kind}_{name}_proj.' for name in names},
        'query_spatial.': f'{kind}_query_pos_sine_proj.',
        'out_proj.': f'{kind}.output_proj.',
    }


register(
    Layout(
        'hf_dab',
        base=HF_DETR,
        marks=('model.query_refpoint_embeddings.',),
        from_file=from_file,
        parts={
            'DETR': {
                'backbone.': '/model.backbone.conv_encoder.model._backbone.',
                'encoder.': '/model.encoder.',
                'decoder.': '/model.decoder.',
            },
            'EncoderLayer': {
                'self_attn_out.norm.': 'self_attn_layer_norm.',
                'ffn.': '',
                'ffn_out.norm.': 'final_layer_norm.',
            },
            # Each norm of the decoder is with what comes before it.
            'DecoderLayer': {
                'self_attn_out.norm.': 'self_attn.self_attn_layer_norm.',
                'cross_attn.': 'cross_attn.',
                'cross_attn_out.norm.': 'cross_attn.cross_attn_layer_norm.',
                'ffn.': 'mlp.',
                'ffn_out.norm.': 'mlp.final_layer_norm.',
            },
            'MultiheadAttention': attention(out='out_proj.'),
            'DecoupledAttention': ABSENT,
            'DecoupledSelfAttention': decoupled('self_attn'),
            'ConditionalCrossAttention': decoupled('cross_attn'),
            'LearnedQueries': ABSENT,
            'LearnedBoxes': {
                'boxes.': '/model.query_refpoint_embeddings.',
                'patterns.': '/model.patterns.',
            },
            'SetHead': {
                'class_branches.0.': '/class_embed.',
                'box_branches.0.': ('/bbox_predictor.', '/model.decoder.bbox_embed.'),
            },
        },
    )
)

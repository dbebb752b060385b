"""The official Anchor DETR."""

from __future__ import annotations

from functools import partial

from .common import numbered_heads
from .layout import Layout
from .official import OFFICIAL
from .registry import register

register(
    Layout(
        'anchor',
        base=OFFICIAL,
        marks=('backbone.body.',),
        parts={
            'DETR': {
                'backbone.': '/backbone.body.',
                'encoder.layers.': '/transformer.encoder_layers.',
                'decoder.layers.': '/transformer.decoder_layers.',
            },
            'EncoderLayer': {
                'self_attn_out.norm.': 'norm1.',
                'ffn.': 'ffn.',
                'ffn_out.norm.': 'ffn.norm2.',
            },
            'DecoderLayer': {
                'self_attn_out.norm.': 'norm2.',
                'cross_attn_out.norm.': 'norm1.',
                'ffn.': 'ffn.',
                'ffn_out.norm.': 'ffn.norm2.',
            },
            'SetHead': partial(numbered_heads, root='/transformer.'),
        },
    )
)

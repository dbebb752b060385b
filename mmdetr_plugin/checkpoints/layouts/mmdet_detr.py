"""mmdet 3.x: DETR and Conditional DETR."""

from __future__ import annotations

from .layout import Layout
from .mmdet import MMDET, heads_of_a_layer
from .registry import register

BOXES = ('reg_ffn.layers.0.0.', 'reg_ffn.layers.1.', 'fc_reg.')

register(
    Layout(
        'mmdet_detr',
        base=MMDET,
        marks=('bbox_head.fc_cls.',),
        parts={'SetHead': heads_of_a_layer(BOXES)},
    )
)

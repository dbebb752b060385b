"""mmdet 3.x: DAB-DETR."""

from __future__ import annotations

from .layout import Layout
from .mmdet import MMDET, heads_of_a_layer
from .registry import register

BOXES = ('fc_reg.layers.0.', 'fc_reg.layers.1.', 'fc_reg.layers.2.')

register(
    Layout(
        'mmdet_dab',
        base=MMDET,
        marks=('bbox_head.fc_cls.', 'bbox_head.fc_reg.layers.'),
        parts={'SetHead': heads_of_a_layer(BOXES)},
    )
)

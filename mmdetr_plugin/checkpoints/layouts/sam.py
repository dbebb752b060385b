"""The official SAM-DETR, with and without SMCA."""

from __future__ import annotations

from .layout import Layout
from .official import OFFICIAL
from .registry import register

register(
    Layout(
        'sam',
        base=OFFICIAL,
        parts={
            'LearnedBoxes': {
                'boxes.': '/query_embed.',
                'content.': '/tgt_embed.',
                'patterns.': '/patterns_embed.',
            },
        },
    )
)

"""mmdet 3.x: DINO."""

from __future__ import annotations

from .layout import Layout
from .mmdet_deformable import MMDET_DEFORMABLE
from .registry import register

LABELS = 'dn_query_generator.label_embedding.'
PROPOSALS = {'output.': '/memory_trans_fc.', 'output_norm.': '/memory_trans_norm.'}

MMDET_DINO = register(
    Layout(
        'mmdet_dino',
        base=MMDET_DEFORMABLE,
        marks=('bbox_head.cls_branches.', LABELS),
        short=(f'{LABELS}weight',),
        parts={
            'Decoder': {},
            'DenoisingQueries': {'labels.': f'/{LABELS}'},
            'EncoderProposals': {**PROPOSALS, 'content.': '/query_embedding.'},
        },
    )
)

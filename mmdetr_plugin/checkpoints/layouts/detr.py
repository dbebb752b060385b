"""The official DETR, and what kept its names: Conditional DETR, DAB-DETR, SMCA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .common import convolutions, numbered_heads
from .layout import Layout, Names
from .official import LAYER, OFFICIAL
from .registry import register

if TYPE_CHECKING:
    from mmdet.models.necks import ChannelMapper

    from ...heads.set_head import SetHead


def projections(neck: ChannelMapper) -> Names:
    names = dict.fromkeys(convolutions(neck), '/input_proj.')
    if len(neck.convs) > 1:  # multi-scale SMCA: by width, and by size if that is not 1
        for prefix in names:
            conv = neck.get_submodule(f'{prefix}conv')
            size = '_3' if prefix.startswith('extra_') else ''
            names[prefix] = f'/input_proj_{conv.in_channels}{size}.'
    return {f'{prefix}conv.': name for prefix, name in names.items()}


def head(part: SetHead) -> Names:
    if not part.shared:
        return numbered_heads(part)
    boxes = ('/bbox_embed.', '/transformer.decoder.bbox_embed.')
    return {
        'class_branches.0.': '/class_embed.',
        'box_branches.0.': boxes if part.refine != 'none' else boxes[0],
    }


register(
    Layout(
        'detr',
        base=OFFICIAL,
        pretraining=('patch2query.', 'feature_align.'),
        relearnt=('class_embed.',),
        parts={
            'ChannelMapper': projections,
            'DecoderLayer': {**LAYER, 'cross_attn.': 'multihead_attn.'},
            'FeatureReconstructionLoss': {'align.': '/feature_align.'},
            'PatchQueries': {
                'embedding.': '/query_embed.',
                'projection.': '/patch2query.',
            },
            'LearnedBoxes': {
                'boxes.': '/refpoint_embed.',
                'content.': '/tgt_embed.',
                'patterns.': '/transformer.patterns.',
            },
            'SetHead': head,
        },
    )
)

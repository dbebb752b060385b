"""mmdet 3.x: what its DETR models have in common."""

from __future__ import annotations

import re
from collections.abc import Collection

from .common import COMMON, ELSEWHERE_ABSENT
from .layout import Layout, Names

PROJECTION = re.compile(r'(neck\.(?:extra_)?convs\.\d+\.)conv\.bias')


def biases_before_norms(names: Collection[str]) -> set[str]:
    """Its ChannelMapper has no bias in a convolution that a norm follows."""
    matches = filter(None, map(PROJECTION.fullmatch, names))
    return {match[0] for match in matches if f'{match[1]}gn.weight' in names}


def heads_of_a_layer(boxes: tuple[str, str, str]) -> Names:
    """The one class head, and the linear layers of the one box head, named ``boxes``."""
    places = {f'box_branches.0.layers.{k}.': name for k, name in enumerate(boxes)}
    return {
        ours: f'/bbox_head.{theirs}'
        for ours, theirs in {**places, 'class_branches.0.': 'fc_cls.'}.items()
    }


DECOUPLED = {
    'query_content.': 'qcontent_proj.',
    'query_pos.': 'qpos_proj.',
    'key_content.': 'kcontent_proj.',
    'key_pos.': 'kpos_proj.',
    'value.': 'v_proj.',
}

MMDET = Layout(
    'mmdet',
    base=COMMON,
    origin='mmdet',
    lacks=biases_before_norms,
    parts={
        **ELSEWHERE_ABSENT,
        'PositionEncoding': {'level_embed': '/level_embed'},
        'LearnedPosition': {
            'columns.': '/positional_encoding.col_embed.',
            'rows.': '/positional_encoding.row_embed.',
        },
        'EncoderLayer': {'self_attn_out.norm.': 'norms.0.', 'ffn_out.norm.': 'norms.1.'},
        'DecoderLayer': {
            'self_attn_out.norm.': 'norms.0.',
            'cross_attn_out.norm.': 'norms.1.',
            'ffn_out.norm.': 'norms.2.',
        },
        'Decoder': {'norm.': 'post_norm.'},
        'FeedForward': {
            'linear1.': 'layers.0.0.',
            'activation.': 'layers.0.1.',
            'linear2.': 'layers.1.',
        },
        'MultiheadAttention': {'in_proj_': 'attn.in_proj_', 'out_proj.': 'attn.out_proj.'},
        'DecoupledSelfAttention': DECOUPLED,
        'ConditionalCrossAttention': {**DECOUPLED, 'query_spatial.': 'qpos_sine_proj.'},
        'LearnedQueries': {'embedding.': '/query_embedding.'},
        'LinearReference': {'': '/reference_points_fc.'},
        'MLPReference': {'': '/decoder.ref_point_head.'},
        'LearnedBoxes': {'boxes.': '/query_embedding.', 'patterns.': '/patterns.'},
        'EncoderProposals': {
            'output.': '/memory_trans_fc.',
            'output_norm.': '/memory_trans_norm.',
            'position.': '/pos_trans_fc.',
            'position_norm.': '/pos_trans_norm.',
        },
    },
)
"""A base, no layout of files."""

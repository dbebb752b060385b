"""The official repositories: what their names have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .common import COMMON, numbered_heads, numbered_projections, of_group
from .layout import Layout, Names

if TYPE_CHECKING:
    from ...attention.level_convolution import LevelConvolution
    from ...heads.mask_head import AttentionMaskHead
    from ...queries import EncoderProposals

LAYER = {
    'self_attn_out.norm.': 'norm1.',
    'cross_attn_out.norm.': 'norm2.',
    'ffn_out.norm.': 'norm3.',
    'ffn.': '',
}


def decoupled(kind: str) -> dict[str, str]:
    """Projections of content and position apart, which belong to the layer."""
    names = {
        'query_content': 'qcontent',
        'query_pos': 'qpos',
        'key_content': 'kcontent',
        'key_pos': 'kpos',
        'value': 'v',
    }
    return {f'{ours}.': f'../{kind}_{theirs}_proj.' for ours, theirs in names.items()}


def of_layer(names: dict[str, str], up: str = '../') -> dict[str, str]:
    """Names of what belongs to the layer above the part."""
    return {ours: up + theirs for ours, theirs in names.items()}


def pyramid(part: LevelConvolution) -> Names:
    names = {'enter.': 'conv_1.', 'leave.': 'conv_2.'}
    names |= {'to_coarser.': 'high_to_low.', 'to_finer.': 'low_to_high.'}
    names |= {f'levels.{i}.': f'self_attn_{8 * 2**i}.' for i in range(len(part.levels))}
    return of_layer(names)


def proposals(part: EncoderProposals) -> Names:
    names = {
        'content.': '/query_embed',
        'output.': '/transformer.enc_output',
        'output_norm.': '/transformer.enc_output_norm',
        'position.': '/transformer.pos_trans',
        'position_norm.': '/transformer.pos_trans_norm',
    }
    return {ours: f'{theirs}{of_group(part.group)}.' for ours, theirs in names.items()}


def mask_head(part: AttentionMaskHead) -> Names:
    names = {
        'query.': '//bbox_attention.q_linear.',
        'key.': '//bbox_attention.k_linear.',
        'out.': '//mask_head.out_lay.',
    }
    lists = (('convs', 'lay', part.convs), ('norms', 'gn', part.norms))
    for kind, theirs, modules in (*lists, ('adapters', 'adapter', part.adapters)):
        names |= {f'{kind}.{i}.': f'//mask_head.{theirs}{i + 1}.' for i in range(len(modules))}
    return names


OFFICIAL = Layout(
    'official',
    base=COMMON,
    origin='official',
    marks=('backbone.0.body.',),
    wrapper='detr.',
    parts={
        'DETR': {
            'backbone.': '/backbone.0.body.',
            'encoder.': '/transformer.encoder.',
            'decoder.': '/transformer.decoder.',
        },
        'ChannelMapper': numbered_projections,
        'PositionEncoding': {'level_embed': '/transformer.level_embed'},
        'LearnedPosition': {
            'columns.': '/backbone.1.col_embed.',
            'rows.': '/backbone.1.row_embed.',
        },
        'AnchorPosition': {  # a ReLU stands between the two linear layers
            f'{ours}.layers.{i}.': f'/transformer.{theirs}.{2 * i}.'
            for ours, theirs in (('plane', 'adapt_pos2d'), ('line', 'adapt_pos1d'))
            for i in (0, 1)
        },
        'EncoderLayer': {**LAYER, 'ffn_out.norm.': 'norm2.'},
        'DecoderLayer': LAYER,
        'DecoupledSelfAttention': decoupled('sa'),
        'ConditionalCrossAttention': {
            **decoupled('ca'),
            'query_spatial.': '../ca_qpos_sine_proj.',
            'out_proj.': '../cross_attn.out_proj.',
        },
        'GaussianPrior': of_layer(
            {
                'norm.': 'norm4.',
                'reference.': 'point1.',
                'offsets.': 'point2.',
                'steepness.': 'point3.',
                'shares.': 'point4.',
            },
            '../../',
        ),
        'FinestLevelDownsampler': {'': '/transformer.'},
        'LevelConvolution': pyramid,
        'SemanticAlignedAttention': of_layer(
            {
                'points.conv.': 'point1.0.',
                'points.mlp.': 'point2.',
                'content_gate.': 'attn1.',
                'place_gate.': 'attn2.',
                'query_content.': 'ca_qcontent_proj.',
                'query_place.': 'ca_qpos_sine_proj.',
                'key_content.': 'ca_kcontent_proj.',
                'key_place.': 'ca_kpos_sine_proj.',
                'value.': 'ca_v_proj.',
                'out_proj.': 'cross_attn.out_proj.',
            }
        ),
        'LearnedQueries': {'embedding.': '/query_embed.'},
        'LinearReference': {'': '/transformer.reference_points.'},
        'MLPReference': {'': '/transformer.decoder.ref_point_head.'},
        'LearnedBoxes': {
            'boxes.': '/refpoint_embed.',
            'content.': '/tgt_embed.',
            'patterns.': '/patterns_embed.',
        },
        'AnchorQueries': {
            'patterns.': '/transformer.pattern.',
            'points': '/transformer.position.weight',
        },
        'DenoisingQueries': {'labels.': '/label_enc.'},
        'EncoderProposals': proposals,
        'SetHead': numbered_heads,
        'AttentionMaskHead': mask_head,
    },
)
"""A base, no layout of files. Models may mix parts of several repositories, so all of them are here."""

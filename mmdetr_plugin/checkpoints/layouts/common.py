"""Names that several layouts share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .layout import ABSENT, Layout, Names, Target

if TYPE_CHECKING:
    from mmdet.models.necks import ChannelMapper

    from ...heads.set_head import SetHead

SCALE = {'projection.mlp.': '../query_scale.'}
"""The projection of query positions, which belongs to the decoder."""

COMMON = Layout(
    'common',
    {
        'Encoder': {'position_scale.': 'query_scale.'},
        'ConditionalPosition': SCALE,
        'BoxCode': {**SCALE, 'position.': '../ref_point_head.'},
        'BoxPosition': {'size.': '../ref_anchor_head.'},
    },
)
"""Names of the DETR family. A base, no layout of files."""

ELSEWHERE_ABSENT = dict.fromkeys(
    (
        'AnchorPosition',
        'AnchorQueries',
        'AttentionMaskHead',
        'FinestLevelDownsampler',
        'GaussianPrior',
        'LevelConvolution',
        'SemanticAlignedAttention',
    ),
    ABSENT,
)
"""Parts of Anchor DETR, SAM-DETR, SMCA and panoptic models, which only the official code has."""


def convolutions(neck: ChannelMapper) -> list[str]:
    """Prefixes of the input projections, the finest level first."""
    kinds = (('convs', neck.convs), ('extra_convs', neck.extra_convs))
    return [f'{kind}.{i}.' for kind, convs in kinds for i in range(len(convs or ()))]


def numbered_projections(neck: ChannelMapper, root: str = '/') -> Names:
    """Input projections as in Deformable DETR: a list of pairs of convolution and norm."""
    names: dict[str, Target] = {}
    for i, prefix in enumerate(convolutions(neck)):
        names[f'{prefix}conv.'] = f'{root}input_proj.{i}.0.'
        names[f'{prefix}gn.'] = f'{root}input_proj.{i}.1.'
    return names


def numbered_heads(head: SetHead, root: str = '/', decoder: str = '/transformer.decoder.') -> Names:
    """Class and box heads as in Deformable DETR: numbered by layer, also where all are the same.

    Args:
        root: their place.
        decoder: place of the decoder, where they are named again if it reads them: the class heads
            for proposals, the box heads for refinement.
    """
    names: dict[str, Target] = {}
    number = len(head.class_branches)
    for i in range(number):
        copies = range(head.num_layers + head.encoder) if number == 1 else (i,)
        again = {'class': head.encoder, 'box': head.refine != 'none'}
        for kind, theirs in (('class', 'class_embed'), ('box', 'bbox_embed')):
            places = (root, decoder) if again[kind] else (root,)
            names[f'{kind}_branches.{i}.'] = tuple(
                f'{place}{theirs}.{j}.' for place in places for j in copies
            )
    return names


def of_group(group: int) -> str:
    """Ending of what groups of queries beyond the first have; no official model has such groups."""
    return f'_{group}' if group else ''

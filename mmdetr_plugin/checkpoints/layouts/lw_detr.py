"""The official LW-DETR and RF-DETR."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..shares import share
from .layout import Layout, Names, Target
from .official import OFFICIAL
from .registry import register

if TYPE_CHECKING:
    from ...detector import DETR
    from ...heads.set_head import SetHead
    from ...necks.projector import C2f, MultiScaleProjector
    from ...queries import EncoderProposals, GroupQueries


def projector(part: MultiScaleProjector) -> Names:
    names: dict[str, Target] = {}
    for i in range(len(part.levels)):
        names |= {f'levels.{i}.block.': f'stages.{i}.0.', f'levels.{i}.norm.': f'stages.{i}.1.'}
        for j in range(part.num_maps):
            names[f'levels.{i}.resize.{j}.'] = f'stages_sampling.{i}.{j}.0.'
    return names


def c2f(part: C2f, convolution: str = 'cv', chain: str = 'm') -> Names:
    names: dict[str, Target] = {'enter.': f'{convolution}1.', 'leave.': f'{convolution}2.'}
    for i in range(len(part.chain)):
        for j in (0, 1):
            names[f'chain.{i}.{j}.'] = f'{chain}.{i}.{convolution}{j + 1}.'
    return names


def groups(part: GroupQueries, root: str = '/', shift: str = 'refpoint_embed') -> Names:
    """One tensor holds the rows of all groups."""
    number = len(part.queries)
    return {
        f'queries.{i}.{ours}.weight': share(f'{root}{theirs}.weight', i, number)
        for i in range(number)
        for ours, theirs in (('content', 'query_feat'), ('shift', shift))
    }


def proposals(part: EncoderProposals, root: str = '/transformer.') -> Names:
    return {
        'output.': f'{root}enc_output.{part.group}.',
        'output_norm.': f'{root}enc_output_norm.{part.group}.',
    }


def heads(part: SetHead, root: str = '/transformer.') -> Names:
    """One pair of heads for all decoder layers, and one for the proposals of each group."""
    names: dict[str, Target] = {}
    for ours, theirs in (('class', 'class'), ('box', 'bbox')):
        names[f'{ours}_branches.0.'] = f'/{theirs}_embed.'
        for group in range(part.encoder):
            place = f'{root}enc_out_{theirs}_embed.{group}.'
            names[f'{ours}_branches.{group + 1}.'] = place
    return names


def mask_token(
    model: DETR, name: str = 'backbone.0.encoder.encoder.embeddings.mask_token'
) -> dict[str, Tensor]:
    """The token of DINOv2's pre-training, which no detector reads."""
    return {name: torch.zeros(1, model.backbone.out_channels[0])}


LW_DETR = register(
    Layout(
        'lw_detr',
        base=OFFICIAL,
        marks=('backbone.0.encoder.patch_embed.',),
        counters=True,
        parts={
            'DETR': {
                'backbone.': '/backbone.0.encoder.',
                'neck.': '/backbone.0.projector.',
                'decoder.': '/transformer.decoder.',
            },
            'WindowedViT': {'patch_embed.': 'patch_embed.proj.'},
            'ViTBlock': {'mlp.linear1.': 'mlp.fc1.', 'mlp.linear2.': 'mlp.fc2.'},
            'MultiScaleProjector': projector,
            'C2f': c2f,
            'ConvModule': {'ln.': 'bn.'},
            'GroupQueries': groups,
            'EncoderProposals': proposals,
            'SetHead': heads,
        },
    )
)

register(
    Layout(
        'rf_detr',
        base=LW_DETR,
        marks=('backbone.0.encoder.encoder.',),
        constants=mask_token,
        parts={
            'WindowedViT': {
                'class_token': 'encoder.embeddings.cls_token',
                'pos_embed': 'encoder.embeddings.position_embeddings',
                'patch_embed.': 'encoder.embeddings.patch_embeddings.projection.',
                'blocks.': 'encoder.encoder.layer.',
                'norm.': 'encoder.layernorm.',
            },
            'ViTBlock': {
                'attn.qkv.': [f'attention.attention.{x}.' for x in ('query', 'key', 'value')],
                'attn.proj.': 'attention.output.dense.',
                'gamma_1': 'layer_scale1.lambda1',
                'gamma_2': 'layer_scale2.lambda1',
                'mlp.linear1.': 'mlp.fc1.',
                'mlp.linear2.': 'mlp.fc2.',
            },
        },
    )
)

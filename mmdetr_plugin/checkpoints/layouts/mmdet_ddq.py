"""mmdet 3.x: DDQ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from .layout import Layout, Names, Target
from .mmdet_dino import MMDET_DINO, PROPOSALS
from .registry import register

if TYPE_CHECKING:
    from ...heads import DistinctHead


def dense_heads(part: DistinctHead) -> Names:
    names: dict[str, Target] = {'dense_class_branches.': '/bbox_head.aux_cls_branches.'}
    for i in range(part.num_layers):
        for k in range(3):
            name = f'/bbox_head.aux_reg_branches.{i}.{2 * k}.'
            names[f'dense_box_branches.{i}.layers.{k}.'] = name
    return names


def without_aliases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Its decoder refers to the dense box heads as soon as it has been trained."""
    return {k: value for k, value in state.items() if not k.startswith('decoder.aux_reg_branches.')}


register(
    Layout(
        'mmdet_ddq',
        base=MMDET_DINO,
        marks=(*MMDET_DINO.marks, 'query_map.', 'bbox_head.aux_cls_branches.'),
        from_file=without_aliases,
        parts={
            'DistinctHead': dense_heads,
            'EncoderProposals': {**PROPOSALS, 'content.': '/query_map.'},
        },
    )
)

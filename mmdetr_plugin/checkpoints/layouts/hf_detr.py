"""transformers: ``DetrForObjectDetection`` and ``ConditionalDetrForObjectDetection``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .common import convolutions
from .hf import HF, names_of_models
from .layout import ABSENT, Layout, Names
from .registry import register

if TYPE_CHECKING:
    from mmdet.models.necks import ChannelMapper

    from ...heads.set_head import SetHead

DECOUPLED = {
    'query_content.': 'q_content_proj.',
    'query_pos.': 'q_pos_proj.',
    'query_spatial.': 'q_pos_sine_proj.',
    'key_content.': 'k_content_proj.',
    'key_pos.': 'k_pos_proj.',
    'value.': 'v_proj.',
    'out_proj.': 'o_proj.',
}


def projections(neck: ChannelMapper) -> Names:
    return {f'{prefix}conv.': '/model.input_projection.' for prefix in convolutions(neck)}


def head(part: SetHead) -> Names | None:
    if part.refine != 'none':
        return ABSENT
    return {'class_branches.0.': '/class_labels_classifier.', 'box_branches.0.': '/bbox_predictor.'}


HF_DETR = register(
    Layout(
        'hf_detr',
        base=HF,
        official='detr',
        marks=('class_labels_classifier.',),
        from_file=names_of_models,
        parts={
            'ChannelMapper': projections,
            'DecoupledAttention': DECOUPLED,
            'LearnedBoxes': ABSENT,
            'SetHead': head,
        },
    )
)

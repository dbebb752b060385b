"""The official D-FINE and DEIM: as RTDETRv2, with HGNetV2 and the parts of distribution refinement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .layout import Layout, Names, Target
from .official import LAYER
from .registry import register
from .rt_detr import RT_DETR_V2

if TYPE_CHECKING:
    from ...heads.distribution_head import DistributionHead


def distributions(part: DistributionHead) -> Names:
    names: dict[str, Target] = {'initial.': '/decoder.pre_bbox_head.'}
    for i in range(len(part.quality)):
        names[f'quality.{i}.mlp.'] = f'/decoder.decoder.lqe_layers.{i}.reg_conf.'
    for ours, theirs in (('reach', 'up'), ('scale', 'reg_scale')):
        names[ours] = (f'/decoder.{theirs}', f'/decoder.decoder.{theirs}')
    return names


D_FINE = register(
    Layout(
        'd_fine',
        base=RT_DETR_V2,
        parts={
            'RepNCSPELAN4': {
                'enter.': 'cv1.',
                'first.': 'cv2.',
                'second.': 'cv3.',
                'leave.': 'cv4.',
            },
            'SeparableDownsample': {'0.': '0.cv1.', '1.': '0.cv2.'},
            'DecoderLayer': {
                **LAYER,
                'cross_attn_out.norm.': 'gateway.norm.',
                'cross_attn_out.': 'gateway.',
            },
            'DistributionHead': distributions,
        },
    )
)

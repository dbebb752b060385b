"""mmdet 3.x: Deformable DETR, also refined and two-stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .layout import Layout, Names, Target
from .mmdet import MMDET
from .registry import register

if TYPE_CHECKING:
    from ...heads.set_head import SetHead


def head(part: SetHead) -> Names:
    names: dict[str, Target] = {}
    own = part.num_layers - 1 if part.shared else 0  # that much higher are their numbers
    for i in range(len(part.class_branches)):
        copies = range(part.num_layers) if part.shared and i == 0 else (i + own,)
        names[f'class_branches.{i}.'] = tuple(f'/bbox_head.cls_branches.{j}.' for j in copies)
        for k in range(3):  # a ReLU stands between the linear layers
            boxes = tuple(f'/bbox_head.reg_branches.{j}.{2 * k}.' for j in copies)
            names[f'box_branches.{i}.layers.{k}.'] = boxes
    return names


MMDET_DEFORMABLE = register(
    Layout(
        'mmdet_deformable',
        base=MMDET,
        marks=('bbox_head.cls_branches.',),
        parts={'SetHead': head},
    )
)

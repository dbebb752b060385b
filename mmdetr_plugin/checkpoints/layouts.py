"""Which layout a checkpoint has, recognised from the names of its tensors.

============================  ====================================================================
``ours``                      this project's models
``detr`` ``deformable``       the official repositories; which of them, the model knows
``anchor`` ``sam``
``mmdet_detr``                mmdet 3.x: DETR and Conditional DETR
``mmdet_dab``                 mmdet 3.x: DAB-DETR
``mmdet_deformable``          mmdet 3.x: Deformable DETR, also refined and two-stage
``hf_detr``                   transformers: ``DetrForObjectDetection``, ``ConditionalDetr...``
``hf_dab``                    transformers: ``DabDetrForObjectDetection``
``hf_deformable``             transformers: ``DeformableDetrForObjectDetection``
============================  ====================================================================

A user reads the style alone: ``ours``, ``official``, ``mmdet`` or ``hf``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

BACKBONES = ('backbone.0.body.', 'backbone.body.')
"""What official names of the backbone begin with (the second in Anchor DETR)."""

DETECTOR = 'detr.'
"""Where official models with a mask head keep the detector."""

STYLES = ('ours', 'official', 'mmdet', 'hf')

MARKS = {
    'ours': ('head.class_branches.',),
    'mmdet_deformable': ('bbox_head.cls_branches.',),
    'mmdet_dab': ('bbox_head.fc_reg.layers.',),
    'mmdet_detr': ('bbox_head.fc_cls.',),
    'hf_dab': ('model.query_refpoint_embeddings.',),
    'hf_deformable': ('model.input_proj.',),
    'hf_detr': ('class_labels_classifier.',),
}
"""What some name of the layout begins with; the first that fits counts."""

MMDET_2 = 'bbox_head.transformer.'

LACKS = {'mmdet': re.compile(r'(neck\.(?:extra_)?convs\.\d+\.)conv\.bias')}
"""By style, what its files may lack: mmdet's ChannelMapper has no bias before a norm. Zero then."""


def is_official(names: Iterable[str]) -> bool:
    """Whether these are names of a published checkpoint of the family (and not ours)."""
    return any(name.removeprefix(DETECTOR).startswith(BACKBONES) for name in names)


def recognise(names: Iterable[str], official: str = 'detr') -> str:
    """The layout that has these names; ``official`` if it is one of the official repositories'.

    Raises:
        ValueError: no layout has.
    """
    names = list(names)
    if is_official(names):
        return official
    if any(name.startswith(MMDET_2) for name in names):
        raise ValueError(
            f'the checkpoint must be of mmdet 3.x, but has names of mmdet 2.x ({MMDET_2}...); '
            'take the 3.x file of the same model'
        )
    for layout, marks in MARKS.items():
        if any(name.startswith(marks) for name in names):
            return layout
    told = [name for name in names if not name.startswith('backbone.')] or names
    raise ValueError(
        f'the names of the checkpoint must be those of one of the layouts {STYLES}, got '
        f'{", ".join(told[:3]) or "no tensors"}; give a checkpoint of a model of the DETR family'
    )


def hf_layout(model: nn.Module) -> str:
    """The layout of transformers' counterpart of ``model``.

    Raises:
        ValueError: it has none.
    """
    if model.layout == 'deformable':
        return 'hf_deformable'
    if model.layout != 'detr':
        raise ValueError(
            "the layout must be 'detr' or 'deformable' for transformers to have the model, got "
            f"'{model.layout}'; write the official layout"
        )
    return 'hf_detr' if model.head.refine == 'none' else 'hf_dab'

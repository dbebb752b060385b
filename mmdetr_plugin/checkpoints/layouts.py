"""Which layout a checkpoint has, recognised from the names of its tensors.

============================  ====================================================================
``ours``                      this project's models
``detr`` ``deformable``       the official repositories; which of them, the model knows
``anchor`` ``sam``
``mmdet_detr``                mmdet 3.x: DETR and Conditional DETR
``mmdet_dab``                 mmdet 3.x: DAB-DETR
``mmdet_deformable``          mmdet 3.x: Deformable DETR, also refined and two-stage
============================  ====================================================================

A user reads the style alone: ``ours``, ``official`` or ``mmdet``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .names import OFFICIAL

BACKBONES = ('backbone.0.body.', 'backbone.body.')
"""What official names of the backbone begin with (the second in Anchor DETR)."""

DETECTOR = 'detr.'
"""Where official models with a mask head keep the detector."""

OURS = 'head.class_branches.'
MMDET_2 = 'bbox_head.transformer.'
STYLES = ('ours', 'official', 'mmdet')

LACKS = {'mmdet': re.compile(r'(neck\.(?:extra_)?convs\.\d+\.)conv\.bias')}
"""By style, what its files may lack: mmdet's ChannelMapper has no bias before a norm. Zero then."""


def style(layout: str) -> str:
    """``mmdet`` for ``mmdet_detr``, ``official`` for ``detr``."""
    return 'official' if layout in OFFICIAL else layout.split('_')[0]


def is_official(names: Iterable[str]) -> bool:
    """Whether these are names of a published checkpoint of the family (and not ours)."""
    return any(name.removeprefix(DETECTOR).startswith(BACKBONES) for name in names)


def recognise(names: Iterable[str], official: str = 'detr') -> str:
    """The layout that has these names; ``official`` if it is one of the official repositories'.

    Raises:
        ValueError: no layout has.
    """
    names = list(names)
    if any(name.startswith(OURS) for name in names):
        return 'ours'
    if is_official(names):
        return official
    if any(name.startswith(MMDET_2) for name in names):
        raise ValueError(
            f'the checkpoint must be of mmdet 3.x, but has names of mmdet 2.x ({MMDET_2}...); '
            'take the 3.x file of the same model, or rename it with the mmdet release it came with'
        )
    if any(name.startswith('bbox_head.') for name in names):
        if any(name.startswith('bbox_head.cls_branches.') for name in names):
            return 'mmdet_deformable'
        dab = any(name.startswith('bbox_head.fc_reg.layers.') for name in names)
        return 'mmdet_dab' if dab else 'mmdet_detr'
    raise ValueError(
        f'the names of the checkpoint must be those of one of {STYLES}, got '
        f'{", ".join(names[:3]) or "no tensors"}; give a checkpoint of a model of the DETR family'
    )

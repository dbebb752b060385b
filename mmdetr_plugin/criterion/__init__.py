"""Slot S11: matching and losses."""

from .assigner import HungarianAssigner
from .losses import (
    BoxGIoULoss,
    BoxL1Loss,
    FocalClassLoss,
    SoftmaxClassLoss,
)
from .masks import MaskDiceLoss, MaskFocalLoss
from .set_criterion import SetCriterion
from .sources import Matches, Source
from .targets import Targets

__all__ = [
    'BoxGIoULoss',
    'BoxL1Loss',
    'FocalClassLoss',
    'HungarianAssigner',
    'MaskDiceLoss',
    'MaskFocalLoss',
    'Matches',
    'SetCriterion',
    'SoftmaxClassLoss',
    'Source',
    'Targets',
]

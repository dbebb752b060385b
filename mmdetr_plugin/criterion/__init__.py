"""Slot S11: matching and losses."""

from .assigner import HungarianAssigner
from .losses import (
    BoxGIoULoss,
    BoxL1Loss,
    FocalClassLoss,
    SoftmaxClassLoss,
)
from .set_criterion import SetCriterion
from .sources import Matches, Source
from .targets import Targets

__all__ = [
    'BoxGIoULoss',
    'BoxL1Loss',
    'FocalClassLoss',
    'HungarianAssigner',
    'Matches',
    'SetCriterion',
    'SoftmaxClassLoss',
    'Source',
    'Targets',
]

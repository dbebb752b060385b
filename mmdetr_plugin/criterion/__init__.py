"""The criterion: matching and losses."""

from ..structures import Targets
from .assigner import HungarianAssigner
from .losses import BoxGIoULoss, BoxL1Loss, FocalClassLoss, Loss, SoftmaxClassLoss
from .masks import MaskDiceLoss, MaskFocalLoss
from .matched import Matched
from .quality import QualityClassLoss, QualityGIoULoss
from .reconstruction import FeatureReconstructionLoss
from .set_criterion import SetCriterion
from .sources import Matches, Source

__all__ = [
    'BoxGIoULoss',
    'BoxL1Loss',
    'FeatureReconstructionLoss',
    'FocalClassLoss',
    'HungarianAssigner',
    'Loss',
    'MaskDiceLoss',
    'MaskFocalLoss',
    'Matched',
    'Matches',
    'QualityClassLoss',
    'QualityGIoULoss',
    'SetCriterion',
    'SoftmaxClassLoss',
    'Source',
    'Targets',
]

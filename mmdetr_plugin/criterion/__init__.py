"""The criterion: matching and losses."""

from ..structures import Targets
from .assigner import HungarianAssigner
from .distributions import DecoupledDistillationLoss, FineGrainedLocalizationLoss
from .iou_aware import IoUAwareClassLoss
from .losses import BoxGIoULoss, BoxL1Loss, FocalClassLoss, Loss, SoftmaxClassLoss
from .masks import MaskDiceLoss, MaskFocalLoss
from .matched import Matched
from .quality import QualityClassLoss, QualityGIoULoss
from .set_criterion import SetCriterion
from .sources import Matches, Source
from .varifocal import MatchabilityAwareClassLoss, VarifocalClassLoss

__all__ = [
    'BoxGIoULoss',
    'BoxL1Loss',
    'DecoupledDistillationLoss',
    'FineGrainedLocalizationLoss',
    'FocalClassLoss',
    'HungarianAssigner',
    'IoUAwareClassLoss',
    'Loss',
    'MaskDiceLoss',
    'MaskFocalLoss',
    'MatchabilityAwareClassLoss',
    'Matched',
    'Matches',
    'QualityClassLoss',
    'QualityGIoULoss',
    'SetCriterion',
    'SoftmaxClassLoss',
    'Source',
    'Targets',
    'VarifocalClassLoss',
]

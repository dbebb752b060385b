"""The criterion: matching and losses."""

from ..structures import Targets
from .assigner import Assigner, HungarianAssigner
from .candidates import CandidateAssigner
from .cells import CandidateFocalLoss, CentralityLoss, DistanceGIoULoss
from .distillation import DistillationBoxLoss, DistillationClassLoss, DistillationFeatureLoss
from .distributions import DecoupledDistillationLoss, FineGrainedLocalizationLoss
from .iou_aware import IoUAwareClassLoss
from .losses import BoxGIoULoss, BoxL1Loss, FocalClassLoss, Loss, SoftmaxClassLoss
from .masks import MaskDiceLoss, MaskFocalLoss
from .matched import Matched
from .quality import QualityClassLoss, QualityGIoULoss
from .reconstruction import FeatureReconstructionLoss
from .regions import RegionClassLoss, RegionDeltaLoss, RegionGIoULoss
from .set_criterion import SetCriterion
from .sources import Matches, Source
from .varifocal import MatchabilityAwareClassLoss, VarifocalClassLoss

__all__ = [
    'Assigner',
    'BoxGIoULoss',
    'BoxL1Loss',
    'CandidateAssigner',
    'CandidateFocalLoss',
    'CentralityLoss',
    'DecoupledDistillationLoss',
    'DistanceGIoULoss',
    'DistillationBoxLoss',
    'DistillationClassLoss',
    'DistillationFeatureLoss',
    'FeatureReconstructionLoss',
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
    'RegionClassLoss',
    'RegionDeltaLoss',
    'RegionGIoULoss',
    'SetCriterion',
    'SoftmaxClassLoss',
    'Source',
    'Targets',
    'VarifocalClassLoss',
]

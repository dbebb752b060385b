"""Hooks of the runner."""

from .batch_augment import BatchAugmentHook
from .checkpoint import WholeCheckpointHook
from .checkpoint_adapter import CheckpointAdapter
from .effective_batch import EffectiveBatchHook
from .parameter_table import ParameterTableHook
from .restart import RestartFromBestHook
from .seed import EpochSeedHook

__all__ = [
    'BatchAugmentHook',
    'CheckpointAdapter',
    'EffectiveBatchHook',
    'EpochSeedHook',
    'ParameterTableHook',
    'RestartFromBestHook',
    'WholeCheckpointHook',
]

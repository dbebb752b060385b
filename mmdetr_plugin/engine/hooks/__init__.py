"""Hooks of the runner."""

from .assigner_switch import AssignerSwitchHook
from .batch_augment import BatchAugmentHook
from .checkpoint import WholeCheckpointHook
from .checkpoint_adapter import CheckpointAdapter
from .effective_batch import EffectiveBatchHook
from .keep_memory import KeepMemoryHook
from .nonfinite import NonFiniteHook
from .parameter_table import ParameterTableHook
from .restart import RestartFromBestHook
from .seed import EpochSeedHook
from .shared_threads import SharedThreadsHook
from .validation_loss import ValidationLossHook

__all__ = [
    'AssignerSwitchHook',
    'BatchAugmentHook',
    'CheckpointAdapter',
    'EffectiveBatchHook',
    'EpochSeedHook',
    'KeepMemoryHook',
    'NonFiniteHook',
    'ParameterTableHook',
    'RestartFromBestHook',
    'SharedThreadsHook',
    'ValidationLossHook',
    'WholeCheckpointHook',
]

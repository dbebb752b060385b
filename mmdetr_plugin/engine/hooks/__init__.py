"""Hooks of the runner."""

from .checkpoint import WholeCheckpointHook
from .checkpoint_adapter import CheckpointAdapter
from .effective_batch import EffectiveBatchHook
from .nonfinite import NonFiniteHook
from .parameter_table import ParameterTableHook
from .seed import EpochSeedHook
from .validation_loss import ValidationLossHook

__all__ = [
    'CheckpointAdapter',
    'EffectiveBatchHook',
    'EpochSeedHook',
    'NonFiniteHook',
    'ParameterTableHook',
    'ValidationLossHook',
    'WholeCheckpointHook',
]

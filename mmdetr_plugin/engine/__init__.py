"""Parts of a run other than the model: hooks, the optimizer's wrapper, the command line."""

from . import hooks
from .layer_decay import LayerDecayConstructor
from .optim_constructor import NoDecayConstructor
from .optim_wrapper import BFloat16OptimWrapper, FiniteAmpOptimWrapper, FiniteOptimWrapper
from .split_optimizer import AdamWPartsConstructor, PartialClipWrapper, SGDWithAdamW

__all__ = [
    'AdamWPartsConstructor',
    'BFloat16OptimWrapper',
    'FiniteAmpOptimWrapper',
    'FiniteOptimWrapper',
    'LayerDecayConstructor',
    'NoDecayConstructor',
    'PartialClipWrapper',
    'SGDWithAdamW',
    'hooks',
]

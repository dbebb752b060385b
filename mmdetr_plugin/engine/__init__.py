"""Parts of a run other than the model: hooks, the optimizer's wrapper, the command line."""

from . import hooks
from .optim_wrapper import BFloat16OptimWrapper, FiniteAmpOptimWrapper, FiniteOptimWrapper

__all__ = ['BFloat16OptimWrapper', 'FiniteAmpOptimWrapper', 'FiniteOptimWrapper', 'hooks']

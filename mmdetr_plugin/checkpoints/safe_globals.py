"""Allows the few classes that MMEngine's own checkpoints hold in addition to tensors.

Since torch 2.6 checkpoints are read with ``weights_only=True``, which refuses every class that is not
registered as safe; without this, MMEngine 0.10 cannot resume from its own checkpoints. Nothing here
switches the check off.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer

NUMBERS = ('float64', 'float32', 'int64', 'int32', 'bool')


def register_safe_globals() -> None:
    """Register the message hub's number histories as safe; has no effect on torch before 2.5."""
    if not hasattr(torch.serialization, 'add_safe_globals'):
        return
    HistoryBuffer()  # its constructor fills the table of statistics
    core = np._core if hasattr(np, '_core') else np.core
    dtypes = [type(np.dtype(name)) for name in NUMBERS]
    makers = [core.multiarray.scalar]
    torch.serialization.add_safe_globals(
        [
            argparse.Namespace,  # the command line that the official repositories save
            HistoryBuffer,
            np.ndarray,
            np.dtype,
            *dtypes,
            *makers,
            # numpy 1 and 2 name their module differently; files travel between them.
            *(
                (maker, f'numpy.{module}.multiarray.{maker.__name__}')
                for module in ('core', '_core')
                for maker in makers
            ),
            *(
                (empty_array, f'numpy.{module}.multiarray._reconstruct')
                for module in ('core', '_core')
            ),
            (statistic, 'builtins.getattr'),
        ]
    )


def empty_array(kind: type, shape: tuple[int, ...], code: object) -> np.ndarray:
    """Stands in for numpy's ``_reconstruct``, which would allocate an array of any size.

    A pickled array is made empty; its content, which follows, states the shape.
    """
    if kind is not np.ndarray or shape != (0,):
        raise ValueError(f'a pickled array must begin empty, got {shape!r}; do not load this file')
    return np.empty(0)


def statistic(owner: object, name: str) -> object:
    """Stands in for ``getattr`` in the unpickler: gives only the registered statistics of a history."""
    statistics = HistoryBuffer._statistics_methods
    if owner is HistoryBuffer and name in statistics:
        return statistics[name]
    raise ValueError(
        f'a checkpoint may refer to the statistics of HistoryBuffer only, got {name!r} of {owner!r}; '
        'do not load this file'
    )

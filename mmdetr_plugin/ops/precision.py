"""Parts of the computation that autocast must not touch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn


def no_autocast(device: torch.device) -> AbstractContextManager:
    """Switch autocast off for ``device``; does nothing on a device without autocast (``meta``)."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def in_weight_precision(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)`` in the precision of its weights, even under autocast; for boxes."""
    with no_autocast(x.device):
        return module(x.to(next(module.parameters()).dtype))


Result = TypeVar('Result')
HALF = (torch.float16, torch.bfloat16)


def in_own_precision(method: Callable[..., Result]) -> Callable[..., Result]:
    """A method of a module that runs under autocast if the module's weights are in half precision.

    So ``model.half()`` and ``model.bfloat16()`` compute as under autocast: places, their codes and
    norms stay in single precision.
    """

    @wraps(method)
    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Result:
        weight = next(module.parameters())
        if weight.dtype not in HALF or torch.is_autocast_enabled(weight.device.type):
            return method(module, *args, **kwargs)
        with torch.autocast(weight.device.type, weight.dtype):
            return method(module, *args, **kwargs)

    return call


def same_autocast(function: Callable[..., Result], device: torch.device) -> Callable[..., Result]:
    """``function`` under the autocast that is in force now, wherever it is called later."""
    if not torch.amp.is_autocast_available(device.type):
        return function
    enabled = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type)

    @wraps(function)
    def call(*args: object) -> Result:
        with torch.autocast(device.type, dtype=dtype, enabled=enabled):
            return function(*args)

    return call


def full_precision(tensor: Tensor) -> Tensor:
    """float32 for anything narrower: places, matching and losses never are in half precision."""
    return tensor.float() if tensor.dtype in HALF else tensor

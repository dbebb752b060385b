"""Deformable attention with GPU kernels of other projects: mmcv's op and the library deformops."""

from __future__ import annotations

import importlib.util
import itertools
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor

from .deformable_levels import Shapes, level_tables, match_precision
from .operators import sampling_operator

EXTENSION = importlib.util.find_spec('mmcv._ext') if importlib.util.find_spec('mmcv') else None
DEFORMOPS = importlib.util.find_spec('deformops')


def has_mmcv() -> bool:
    """Whether mmcv's compiled operators are installed and were built for CUDA."""
    # torch.compile cannot call into the extension, so it assumes the usual case: a CUDA build.
    return EXTENSION is not None and (torch.compiler.is_compiling() or _built_for_cuda())


@lru_cache(maxsize=1)
def _built_for_cuda() -> bool:
    try:
        from mmcv.ops import get_compiling_cuda_version
    except ImportError:  # the extension was built for another torch
        return False
    return get_compiling_cuda_version() != 'not available'


def has_deformops() -> bool:
    """Whether the extra ``cuda-fast`` is installed."""
    return DEFORMOPS is not None


def sample_mmcv(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """By mmcv's CUDA op, in 32 or 64 bits: it needs locations and values in one precision."""
    tensors = (x.contiguous() for x in match_precision(value, locations, weights))
    return _mmcv(*tensors, list(itertools.chain(*shapes)))


def sample_deformops(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """By deformops (Triton on CUDA, its eager form on other devices), in any precision."""
    from deformops.registry import msda

    locations = locations.to(torch.promote_types(value.dtype, torch.float32))
    # The gradient of a cell sums thousands of samples; a 16-bit sum would stop growing too early.
    # torch.compile cannot trace the option; the library then decides by the GPU's architecture.
    options = {} if torch.compiler.is_compiling() else {'fp32acc': True}
    weights = weights.flatten(-2).to(value.dtype)
    return msda(value, *level_tables(shapes, value.device), locations, weights, **options)


def _mmcv_extension() -> ModuleType:
    from mmcv.utils import ext_loader

    return ext_loader.load_ext('_ext', ['ms_deform_attn_forward', 'ms_deform_attn_backward'])


def _forward(value: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]) -> Tensor:
    tables, step = _tables_and_step(value, sizes)
    with torch.cuda.device_of(value):  # the kernel runs on the current device
        return _mmcv_extension().ms_deform_attn_forward(
            value, *tables, locations, weights, im2col_step=step
        )


def _backward(
    grad: Tensor, value: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    tables, step = _tables_and_step(value, sizes)
    grads = torch.zeros_like(value), torch.zeros_like(locations), torch.zeros_like(weights)
    with torch.cuda.device_of(value):
        _mmcv_extension().ms_deform_attn_backward(
            value, *tables, locations, weights, grad, *grads, im2col_step=step
        )
    return grads


def _tables_and_step(value: Tensor, sizes: list[int]) -> tuple[tuple[Tensor, Tensor], int]:
    """:func:`level_tables` on the device, and how many images mmcv's op processes at once."""
    shapes = tuple(zip(sizes[::2], sizes[1::2]))
    step = next(s for s in (64, 32, 16, 8, 4, 2, 1) if value.shape[0] % min(s, value.shape[0]) == 0)
    return level_tables(shapes, value.device), step


_mmcv = sampling_operator('deformable_attention_mmcv', _forward, _backward)

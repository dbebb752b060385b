"""Multi-scale deformable attention (Deformable DETR, eq. 3) behind one function."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import no_autocast

Shapes = tuple[tuple[int, int], ...]


def deformable_attention(
    value: Tensor,
    shapes: Shapes,
    locations: Tensor,
    weights: Tensor,
    backend: str | None = None,
) -> Tensor:
    """Weighted sum of values read by bilinear interpolation; zero outside a map.

    Args:
        value: (B, S, heads, D), the levels joined.
        shapes: ``(H, W)`` of every level, python integers.
        locations: (B, N, heads, L, P, 2), (x, y) in the unit square of each level.
        weights: (B, N, heads, L, P).
        backend: ``grid``, ``compiled`` (CPU, needs numba) or ``mmcv`` (CUDA); None chooses.

    Returns:
        (B, N, heads * D) in the dtype of ``value``.

    Raises:
        ValueError: there is no such backend.
    """
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f'backend must be one of {sorted(BACKENDS)}, got {backend!r}; change it')
    dtype = value.dtype
    with no_autocast(value.device):
        # Positions lose whole pixels in half precision, so the sampling is done in single.
        precision = torch.promote_types(locations.dtype, torch.float32)
        value, locations, weights = (x.to(precision) for x in (value, locations, weights))
        sample = BACKENDS[backend or choose_backend(value)]
        out = sample(value, shapes, locations, weights)
    return out.to(dtype)


def choose_backend(value: Tensor) -> str:
    """The fastest backend that takes ``value``: a key of :data:`BACKENDS`."""
    plain = type(value) is Tensor and not torch.compiler.is_compiling()
    if value.is_cuda and value.dtype == torch.float32:
        return 'mmcv'
    if plain and value.device.type == 'cpu' and has_numba() and not torch.jit.is_tracing():
        return 'compiled'
    return 'grid'


@lru_cache(maxsize=1)
def has_numba() -> bool:
    """Whether the extra ``cpu`` is installed."""
    return importlib.util.find_spec('numba') is not None


def sample_grid(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The same by :func:`torch.nn.functional.grid_sample`, on any device and in any precision."""
    batch, _, heads, width = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (B * heads, N, L, P, 2)
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).split([h * w for h, w in shapes], -1)
    sampled = [
        F.grid_sample(
            maps[i].unflatten(-1, shapes[i]),
            grids[:, :, i],
            mode='bilinear',
            padding_mode='zeros',
            align_corners=False,
        )
        for i in range(levels)
    ]  # L x (B * heads, D, N, P)
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    out = (torch.cat(sampled, -1) * weights).sum(-1)  # (B * heads, D, N)
    return out.view(batch, heads * width, queries).transpose(1, 2).contiguous()


def level_layout(shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
    """(L, 2) sizes as (H, W), (L,) first indices on ``device``; copied there once per shapes."""
    # What a tracer makes must not outlive the trace.
    return (_layout if torch.compiler.is_compiling() else _cached_layout)(shapes, device)


def _layout(shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
    sizes = torch.tensor(shapes, dtype=torch.long)
    starts = torch.cat((sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]))
    return sizes.to(device), starts.to(device)


@lru_cache(maxsize=64)
def _cached_layout(shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # a later training step may save them for its backward pass
        return _layout(shapes, device)


def _mmcv_cuda(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    sizes, starts = level_layout(shapes, value.device)
    step = next(s for s in (64, 32, 16, 8, 4, 2, 1) if value.shape[0] % min(s, value.shape[0]) == 0)
    with torch.cuda.device(value.device):  # the kernel launches on the current device
        return MultiScaleDeformableAttnFunction.apply(
            value.contiguous(), sizes, starts, locations.contiguous(), weights.contiguous(), step
        )


def _compiled_cpu(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    from .deformable_cpu import sample_compiled

    return sample_compiled(value, shapes, locations, weights)


BACKENDS: dict[str, Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]] = {
    'grid': sample_grid,
    'compiled': _compiled_cpu,
    'mmcv': _mmcv_cuda,
}

"""Multi-scale deformable attention (Deformable DETR, eq. 3): one function for all backends."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .deformable_cuda import has_deformops, has_mmcv, sample_deformops, sample_mmcv
from .deformable_levels import Shapes, level_tables, match_precision
from .exporting import exporting
from .precision import no_autocast

__all__ = ['BACKENDS', 'Shapes', 'check_backend', 'choose_backend', 'deformable_attention']
__all__ += ['has_numba', 'level_tables', 'sample_grid']

NUMBA = importlib.util.find_spec('numba')
WIDEST = 128
"""Largest width of a head for the compiled loops: beyond it they run out of registers."""
FROM_DEFORMOPS = frozenset({torch.float16, torch.bfloat16})
"""Precisions in which deformops is preferred to mmcv's op. mmcv's op needs values and locations in one
precision, so 16-bit values are copied to 32 bits first. deformops reads 16-bit values together with
32-bit locations, which takes 12 % of the memory according to its paper (TMLR 2026). In 32 bits the two
have not been compared for this package, so mmcv's op, the published one, comes first."""


def deformable_attention(
    value: Tensor,
    shapes: Shapes,
    locations: Tensor,
    weights: Tensor,
    backend: str | None = None,
) -> Tensor:
    """Weighted sum of values read by bilinear interpolation; values outside a map are zero.

    The locations are kept in single precision whatever the dtype of the values: in 16 bits they would
    be wrong by whole pixels.

    Args:
        value: (B, S, heads, D), the tokens of all levels one after the other.
        shapes: ``(H, W)`` of every level, as Python integers.
        locations: (B, N, heads, L, P, 2), (x, y) in the unit square of each level.
        weights: (B, N, heads, L, P).
        backend: a key of :data:`BACKENDS`; None = the fastest that can run here.

    Returns:
        (B, N, heads * D) in the dtype of ``value``.

    Raises:
        ValueError: the backend does not exist or cannot run here.
    """
    if backend is None:
        backend = choose_backend(value)
    else:
        check_backend(backend, value.device)
    with no_autocast(value.device):
        return BACKENDS[backend](value, shapes, locations, weights).to(value.dtype)


def choose_backend(value: Tensor) -> str:
    """The key in :data:`BACKENDS` of the fastest backend that can process ``value``."""
    if exporting():  # no operator of ours or of an optional library
        return 'grid'
    if value.is_cuda and value.dtype != torch.float64:
        order = ('deformops', 'mmcv') if value.dtype in FROM_DEFORMOPS else ('mmcv', 'deformops')
        return next((name for name in order if NEEDS[name][1]()), 'grid')
    if value.device.type == 'cpu' and value.shape[-1] <= WIDEST and has_numba():
        return 'compiled'
    return 'grid'


def check_backend(name: str, device: torch.device | None = None) -> None:
    """Check the name of a backend and, if ``device`` is given, that the backend can run there.

    Raises:
        ValueError: ``name`` is not a key of :data:`BACKENDS`, the backend is not installed, or it
            does not run on ``device``.
    """
    if name not in BACKENDS:
        raise ValueError(f'backend must be one of {sorted(BACKENDS)}, got {name!r}; change it')
    if device is None or name not in NEEDS:
        return
    kind, available, hint = NEEDS[name]
    if not available():
        raise ValueError(
            f'backend {name!r} must be installed, but is not; {hint}, or leave the backend out'
        )
    if kind not in (None, device.type):
        raise ValueError(
            f'backend {name!r} must be given tensors on {kind}, got {device}; move them, or leave '
            'the backend out so that one is chosen'
        )


def has_numba() -> bool:
    """Whether the extra ``cpu`` is installed."""
    return NUMBA is not None


def sample_grid(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Deformable attention by :func:`torch.nn.functional.grid_sample`; works on any device."""
    value, locations, weights = match_precision(value, locations, weights)
    batch, queries, heads, levels, points, _ = locations.shape
    # The queries come last: multiplying and adding up along the innermost axis would be slower.
    grids = (2 * locations - 1).permute(3, 0, 2, 4, 1, 5).flatten(1, 2)  # (L, B * heads, P, N, 2)
    weights = weights.permute(3, 0, 2, 4, 1).reshape(levels, batch * heads, 1, points, queries)
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).split([h * w for h, w in shapes], -1)
    out = value.new_zeros(())
    for i, shape in enumerate(shapes):
        sampled = F.grid_sample(
            maps[i].unflatten(-1, shape),
            grids[i],
            mode='bilinear',
            padding_mode='zeros',
            align_corners=False,
        )  # (B * heads, D, P, N)
        out = out + (sampled * weights[i]).sum(-2)
    return out.view(batch, heads * value.shape[-1], queries).transpose(1, 2).contiguous()


def _sample_compiled(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    from .deformable_cpu import sample_compiled

    return sample_compiled(value, shapes, locations, weights)


BACKENDS: dict[str, Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]] = {
    'grid': sample_grid,
    'compiled': _sample_compiled,
    'mmcv': sample_mmcv,
    'deformops': sample_deformops,
}
NEEDS: dict[str, tuple[str | None, Callable[[], bool], str]] = {
    'compiled': ('cpu', has_numba, "pip install '.[cpu]'"),
    'mmcv': ('cuda', has_mmcv, 'install an mmcv that was built for CUDA'),
    'deformops': (None, has_deformops, "pip install '.[cuda-fast]'"),
}
"""For each backend: the device it needs (None = any), whether it is installed, how to install it."""

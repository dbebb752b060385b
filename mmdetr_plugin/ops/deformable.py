"""Multi-scale deformable attention (Deformable DETR, eq. 3) behind one function."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .deformable_cuda import has_deformops, has_mmcv, sample_deformops, sample_mmcv
from .deformable_layout import Shapes, level_layout, single
from .precision import no_autocast

__all__ = ['BACKENDS', 'Shapes', 'check_backend', 'choose_backend', 'deformable_attention']
__all__ += ['has_numba', 'level_layout', 'sample_grid']

NUMBA = importlib.util.find_spec('numba')
WIDEST = 128
"""Numbers of a head beyond which the compiled loops run out of registers."""
FROM_DEFORMOPS = frozenset({torch.float16, torch.bfloat16})
"""Where deformops goes before mmcv's op. mmcv's takes places no finer than the values, so in 16 bits
it runs on copies in 32; deformops reads 16-bit values beside 32-bit places, which its paper (TMLR
2026) measures at 12 % of the memory. In 32 bits nobody has measured the two against each other for
this package, so there mmcv's op, the published one, stays first."""


def deformable_attention(
    value: Tensor,
    shapes: Shapes,
    locations: Tensor,
    weights: Tensor,
    backend: str | None = None,
) -> Tensor:
    """Weighted sum of values read by bilinear interpolation; zero outside a map.

    Places stay in single precision whatever the values are in: in 16 bits they lose whole pixels.

    Args:
        value: (B, S, heads, D), the levels joined.
        shapes: ``(H, W)`` of every level, python integers.
        locations: (B, N, heads, L, P, 2), (x, y) in the unit square of each level.
        weights: (B, N, heads, L, P).
        backend: a key of :data:`BACKENDS`; None chooses.

    Returns:
        (B, N, heads * D) in the dtype of ``value``.

    Raises:
        ValueError: there is no such backend, or it cannot run here.
    """
    if backend is None:
        backend = choose_backend(value)
    else:
        check_backend(backend, value.device)
    with no_autocast(value.device):
        return BACKENDS[backend](value, shapes, locations, weights).to(value.dtype)


def choose_backend(value: Tensor) -> str:
    """The fastest backend that takes ``value``: a key of :data:`BACKENDS`."""
    # A graph that leaves this process must not name our operators or an optional library's.
    exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)
    if torch.jit.is_tracing() or exporting():
        return 'grid'
    if value.is_cuda and value.dtype != torch.float64:
        order = ('deformops', 'mmcv') if value.dtype in FROM_DEFORMOPS else ('mmcv', 'deformops')
        return next((name for name in order if NEEDS[name][1]()), 'grid')
    if value.device.type == 'cpu' and value.shape[-1] <= WIDEST and has_numba():
        return 'compiled'
    return 'grid'


def check_backend(name: str, device: torch.device | None = None) -> None:
    """Refuse what is not a key of :data:`BACKENDS` or, with ``device``, cannot run there.

    Raises:
        ValueError: so it is.
    """
    if name not in BACKENDS:
        raise ValueError(f'backend must be one of {sorted(BACKENDS)}, got {name!r}; change it')
    if device is None or name not in NEEDS:
        return
    kind, available, hint = NEEDS[name]
    if not available():
        raise ValueError(f'backend {name!r} must be installed, got none; {hint}, or leave it out')
    if kind not in (None, device.type):
        raise ValueError(
            f'backend {name!r} must be given tensors on {kind}, got {device}; move them, or leave '
            'the backend out'
        )


def has_numba() -> bool:
    """Whether the extra ``cpu`` is installed."""
    return NUMBA is not None


def sample_grid(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The same by :func:`torch.nn.functional.grid_sample`, on any device and in any precision."""
    value, locations, weights = single(value, locations, weights)
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
    'compiled': ('cpu', has_numba, "pip install 'mmdetr_plugin[cpu]'"),
    'mmcv': ('cuda', has_mmcv, 'install an mmcv that was built for CUDA'),
    'deformops': (None, has_deformops, "pip install 'mmdetr_plugin[cuda-fast]'"),
}
"""Device that a backend is bound to, whether it is installed, what installs it."""

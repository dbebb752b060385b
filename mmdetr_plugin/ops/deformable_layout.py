"""What the backends of deformable attention share: sizes on the device, precision."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

Shapes = tuple[tuple[int, int], ...]


def single(value: Tensor, locations: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All three in the precision of the locations, which is single at least."""
    precision = torch.promote_types(locations.dtype, torch.float32)
    return value.to(precision), locations.to(precision), weights.to(precision)


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

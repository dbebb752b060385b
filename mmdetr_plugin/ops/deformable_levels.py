"""What the backends of deformable attention share: tables of the levels, and the precision."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .exporting import exporting

Shapes = tuple[tuple[int, int], ...]


def match_precision(
    value: Tensor, locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Convert all three to the precision of the locations, but at least to float32."""
    precision = torch.promote_types(locations.dtype, torch.float32)
    return value.to(precision), locations.to(precision), weights.to(precision)


def level_tables(shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
    """(L, 2) sizes as (H, W) and (L,) index of each level's first token, cached on ``device``."""
    # Tensors made while tracing must not be used after the trace.
    return (_tables if torch.compiler.is_compiling() else _cached_tables)(shapes, device)


def _tables(shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
    if exporting():  # a tensor made of symbols would be one of numbers
        sides = [torch.full((1,), side, dtype=torch.long) for shape in shapes for side in shape]
        sizes = torch.cat(sides).unflatten(0, (-1, 2))
    else:
        sizes = torch.tensor(shapes, dtype=torch.long)
    starts = torch.cat((sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]))
    return sizes.to(device), starts.to(device)


@lru_cache(maxsize=64)
def _cached_tables(shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # a later training step may save them for its backward pass
        return _tables(shapes, device)

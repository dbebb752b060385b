"""Averages over the processes of a training run."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def mean_over_ranks(values: Tensor | Sequence[float], device: torch.device | None = None) -> Tensor:
    """Mean over ranks of a vector (n,); a single process returns it without communication."""
    if not isinstance(values, Tensor):
        # Filled one by one on the device: building from a list would be a host-to-device copy.
        values = torch.stack([torch.full((), float(v), device=device) for v in values])
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    mean = values.detach().clone()
    dist.all_reduce(mean)
    return mean / dist.get_world_size()

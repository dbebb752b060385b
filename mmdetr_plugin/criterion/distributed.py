"""Averages over the processes of a training run."""

import torch.distributed as dist
from torch import Tensor


def mean_over_ranks(values: Tensor) -> Tensor:
    """Mean over ranks of a vector (n,); a single process returns it without communication."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    mean = values.detach().clone()
    dist.all_reduce(mean)
    return mean / dist.get_world_size()

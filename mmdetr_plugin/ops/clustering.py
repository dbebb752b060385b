"""Clusters of similar vectors by locality-sensitive hashing (ACT; E2LSH of Datar et al., 2004)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .precision import full_precision

WIDTH = 8.0
"""Width of a bucket, r in the paper."""
MAX_ROUNDS = 32
"""More rounds of two bits each do not fit into 64 bits."""


@dataclass(frozen=True)
class Clusters:
    """Clusters of N vectors in each of R rows.

    Attributes:
        index: (R, N), the cluster of each vector, numbered by ascending hash value.
        counts: (R, C), vectors in each cluster; C is the largest number of clusters of a row, and rows
            with fewer have zeros at their end.
    """

    index: Tensor
    counts: Tensor

    def mean(self, vectors: Tensor) -> Tensor:
        """(R, C, D): the means of the vectors (R, N, D) of each cluster; 0 where there are none."""
        index = self.index[..., None].expand_as(vectors)
        sums = vectors.new_zeros(*self.counts.shape, vectors.shape[-1]).scatter_add(
            1, index, vectors
        )
        return sums / self.counts.clamp(min=1)[..., None].to(sums.dtype)

    def spread(self, values: Tensor) -> Tensor:
        """(R, N, D): for each vector the value (R, C, D) of its cluster."""
        return values.gather(1, self.index[..., None].expand(-1, -1, values.shape[-1]))


def draw_planes(width: int, rounds: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Random directions (width, rounds), standard normal, and offsets (rounds,) in 0..1.

    In the paper offsets are up to the bucket's width; the authors' code draws them from 0..1.
    """
    planes = torch.randn(width, rounds, device=device)
    return planes, torch.rand(rounds, device=device)


@torch.no_grad()
def hash_values(vectors: Tensor, planes: Tensor, offsets: Tensor) -> Tensor:
    """(R, N) int64: equal values for vectors (R, N, D) that fall into the same bucket in every round.

    A bucket is floor((v . plane + offset) / r). The smallest of a row becomes 0, then the buckets of
    the rounds are packed, two bits each; larger numbers carry into the bits of the next round, as in
    the authors' code.

    Args:
        planes: (D, rounds).
        offsets: (rounds,).

    Raises:
        ValueError: there are more than 32 rounds.
    """
    rounds = len(offsets)
    if not 0 < rounds <= MAX_ROUNDS:
        raise ValueError(
            f'rounds of hashing must be between 1 and {MAX_ROUNDS}, got {rounds}; change q_hashes or '
            'k_hashes'
        )
    vectors = full_precision(vectors)
    projected = vectors @ planes.to(vectors) + offsets.to(vectors)
    buckets = (projected / WIDTH).floor().long()
    buckets = buckets - buckets.amin(1, keepdim=True)
    shifts = 2 * torch.arange(rounds, device=buckets.device)
    return (buckets << shifts).sum(-1)


@torch.no_grad()
def cluster(values: Tensor) -> Clusters:
    """Vectors with equal hash values (R, N) of a row form a cluster.

    On a GPU the program waits for the largest number of clusters.
    """
    ordered, order = values.sort(1)
    first = torch.zeros_like(values)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    rank = first.cumsum(1)
    index = torch.empty_like(rank).scatter(1, order, rank)
    number = int(rank[:, -1].max()) + 1
    counts = index.new_zeros(len(values), number).scatter_add(1, index, torch.ones_like(index))
    return Clusters(index, counts)

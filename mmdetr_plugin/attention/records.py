"""What an attention op weighed in one call: dense weights, sampled places, rows and columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ..ops.deformable import sample_grid
from ..ops.deformable_cells import sample_cells
from ..structures import Memory, State
from ..structures.memory import Shapes


@dataclass(frozen=True)
class Attention(ABC):
    """The attention of N queries to S keys.

    Attributes:
        values: (B, heads, S, D), what the weights are applied to.
        shapes: ``(H, W)`` of the levels that the keys are the cells of; () = the keys are queries.
    """

    values: Tensor
    shapes: Shapes

    @abstractmethod
    def dense(self) -> Tensor:
        """(B, heads, N, S): the weight of every key; without dropout."""

    @abstractmethod
    def output(self) -> Tensor:
        """(B, N, heads * D): the weights applied to the values, before the output projection."""

    def maps(self, level: int = 0) -> Tensor:
        """(B, heads, N, H, W): the weights of the cells of one level.

        Raises:
            ValueError: the keys are queries.
        """
        return to_map(self.dense(), self.shapes, level)


def to_map(weights: Tensor, shapes: Shapes, level: int = 0) -> Tensor:
    """(..., S) for all cells -> (..., H, W) for those of one level; see :meth:`Attention.maps`."""
    if not shapes:
        raise ValueError(
            'only attention to an image has maps, got attention among queries; use dense()'
        )
    parts = weights.split([height * width for height, width in shapes], -1)
    return parts[level].unflatten(-1, shapes[level])


def key_shapes(state: State, memory: Memory) -> Shapes:
    """The levels that the keys of self-attention are the cells of; () if they are queries."""
    return () if state.points is None else memory.shapes


@dataclass(frozen=True)
class DenseAttention(Attention):
    """A weight for every key.

    Attributes:
        weights: (B, heads, N, S).
        parts: further maps (B, heads, N, S) by name: ``content`` and ``spatial``, the attention by
            content or position alone (Conditional DETR, figure 1); ``gaussian``, the prior (SMCA).
        points: (B, N, heads, 2), (x, y) in 0..1 of the unpadded image: the salient points from which
            the queries are read (SAM-DETR).
    """

    weights: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    points: Tensor | None = None

    def dense(self) -> Tensor:
        return self.weights

    def output(self) -> Tensor:
        return (self.weights.to(self.values) @ self.values).transpose(1, 2).flatten(2)


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(D) + mask), (B, heads, N, S); arguments as for :func:`.base.attend`."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        scores = scores + mask
    return scores.softmax(-1)


@dataclass(frozen=True)
class AxisAttention(Attention):
    """A weight for every column and every row; that of a cell is their product (Anchor DETR).

    Attributes:
        row: (B, heads, N, W), weights of the columns x.
        column: (B, heads, N, H), weights of the rows y.
    """

    row: Tensor
    column: Tensor

    def dense(self) -> Tensor:
        return (self.column[..., :, None] * self.row[..., None, :]).flatten(-2)

    def output(self) -> Tensor:
        return (self.dense().to(self.values) @ self.values).transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class SampledAttention(Attention):
    """Weights of sampled places (Deformable DETR).

    Attributes:
        locations: for each level (B, N, heads, P, 2), (x, y) in the unit square of the padded level.
        weights: for each level (B, N, heads, P); those of all levels of a head add up to 1.
        discrete: whether a place reads the nearest cell; else between cells.
    """

    locations: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    discrete: bool = False

    def output(self) -> Tensor:
        return self._read(self.values)

    def dense(self) -> Tensor:
        """The share of every cell; what lies outside the maps is missing from the sum."""
        batch, heads, cells, _ = self.values.shape
        eye = torch.eye(cells, dtype=self.values.dtype, device=self.values.device)
        read = self._read(eye.expand(batch, heads, -1, -1))
        return read.unflatten(-1, (heads, cells)).transpose(1, 2)

    def _read(self, values: Tensor) -> Tensor:
        read = sample_cells if self.discrete else sample_grid
        sizes = [height * width for height, width in self.shapes]
        levels = zip(
            values.transpose(1, 2).split(sizes, 1),
            self.shapes,
            self.locations,
            self.weights,
            strict=True,
        )
        parts = [
            read(value, (shape,), places[:, :, :, None], weights[:, :, :, None])
            for value, shape, places, weights in levels
        ]
        return torch.stack(parts).sum(0)


def resized_map(weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (..., H, W) enlarged to ``size``, for drawing."""
    flat = weights.float().flatten(0, -3)[:, None]
    return F.interpolate(flat, size=size, mode='bilinear')[:, 0].unflatten(0, weights.shape[:-2])

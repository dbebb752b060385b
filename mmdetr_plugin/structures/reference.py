"""Reference points and boxes of the queries, each in the space in which it is updated."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..ops.boxes import xyxy_to_cxcywh
from ..ops.coordinates import clamp_logit, inverse_sigmoid
from ..ops.precision import full_precision

SomeReference = TypeVar('SomeReference', bound='Reference')


@dataclass(frozen=True)
class Reference:
    """Points or boxes; each subclass defines the space of its coordinates.

    Attributes:
        values: (B, N, 2 | 4), a point (x, y) or a box (cx, cy, w, h).
    """

    values: Tensor

    @property
    def dims(self) -> int:
        """2 for points, 4 for boxes."""
        return self.values.shape[-1]

    @abstractmethod
    def unit(self) -> Tensor:
        """(B, N, 2 | 4) in 0..1 of the unpadded image, never in half precision."""

    @abstractmethod
    def moved(self, delta: Tensor, eps: float | None = None) -> Reference:
        """The boxes that result when a box head's output ``delta`` (B, N, 4) moves the reference.

        Args:
            eps: coordinates are first clamped to at least this distance from 0 and 1; None = no clamp.
        """

    def map(self: SomeReference, change: Callable[[Tensor], Tensor]) -> SomeReference:
        """The same kind of reference with changed values."""
        return replace(self, values=change(self.values))

    def detach(self: SomeReference) -> SomeReference:
        return self.map(Tensor.detach)

    def points(self: SomeReference) -> SomeReference:
        """The centres alone."""
        return self.map(lambda values: values[..., :2])


@dataclass(frozen=True)
class LogitReference(Reference):
    """Coordinates before the sigmoid: additions are exact there (most of the family)."""

    def unit(self) -> Tensor:
        return full_precision(self.values).sigmoid()

    def moved(self, delta: Tensor, eps: float | None = None) -> LogitReference:
        values = self.values if eps is None else clamp_logit(self.values, eps)
        return LogitReference(delta + F.pad(values, (0, 4 - self.dims)))


@dataclass(frozen=True)
class UnitReference(Reference):
    """Coordinates in 0..1, moved in logit space (references that are decoded boxes, as in D-FINE)."""

    def unit(self) -> Tensor:
        return full_precision(self.values)

    def moved(self, delta: Tensor, eps: float | None = None) -> LogitReference:
        logits = inverse_sigmoid(self.values, 1e-5 if eps is None else eps)
        return LogitReference(logits).moved(delta)


@dataclass(frozen=True)
class CellReference(Reference):
    """Cells of feature maps in 0..1, moved by the distances from their centre to the left, top, right
    and bottom side of a box, in units of the cell (TSP-FCOS; FCOS)."""

    def unit(self) -> Tensor:
        return full_precision(self.values)

    def moved(self, delta: Tensor, eps: float | None = None) -> RelativeReference:
        centre, size = self.values[..., :2], self.values[..., 2:]
        corners = (centre - delta[..., :2] * size, centre + delta[..., 2:] * size)
        return RelativeReference(xyxy_to_cxcywh(torch.cat(corners, -1)))


@dataclass(frozen=True)
class RelativeReference(Reference):
    """Boxes in 0..1 that are moved in units of their own size (LW-DETR, RF-DETR)."""

    def unit(self) -> Tensor:
        return full_precision(self.values)

    def moved(self, delta: Tensor, eps: float | None = None) -> RelativeReference:
        centre, size = self.values[..., :2], self.values[..., 2:]
        moved = (delta[..., :2] * size + centre, delta[..., 2:].exp() * size)
        return RelativeReference(torch.cat(moved, -1))

"""Queries that are anchor points with patterns (Anchor DETR, sections 3.2 and 3.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..checkpoints.rows import QUERIES, Rows
from ..heads.base import Head
from ..ops.coordinates import inverse_sigmoid
from ..positions.maps import PositionEncoding
from ..registry import MODELS
from ..structures import LogitReference, Memory, Reference, State, Targets
from .base import Made, QuerySource, expand

ANCHORS = ('learned', 'grid')


@MODELS.register_module()
class AnchorQueries(QuerySource):
    """Every anchor point is used with each of several learned contents, its patterns.

    Queries are ordered pattern by pattern. The position of a query is the code of its point, by the
    same encoding as the codes of the feature map; it does not follow refined boxes.

    Args:
        num_queries: number of points; there are num_patterns times as many queries.
        position: the encoding of the feature map; the detector passes its own.
        anchors: ``learned``: points that start uniformly distributed; ``grid``: the centres of a
            square grid, not trained (table 5).
    """

    def __init__(
        self,
        num_queries: int,
        position: PositionEncoding,
        embed_dims: int = 256,
        num_patterns: int = 3,
        anchors: str = 'learned',
    ) -> None:
        super().__init__()
        if anchors not in ANCHORS:
            raise ValueError(f'anchors must be one of {ANCHORS}, got {anchors!r}; change it')
        self.num_queries = num_queries
        self.num_patterns = num_patterns
        self.patterns = nn.Embedding(num_patterns, embed_dims)
        if anchors == 'learned':
            self.points = nn.Parameter(torch.rand(num_queries, 2))
        else:
            self.register_buffer('points', grid_points(num_queries), persistent=False)
        self._position = (position,)  # in a tuple, as it is a submodule of the detector alone

    @property
    def separable(self) -> bool:
        return self.num_patterns == 1

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        points = self.points.repeat(self.num_patterns, 1)  # (x, y) in 0..1
        content = self.patterns.weight.repeat_interleave(self.num_queries, 0)
        made = self._at(points, LogitReference(inverse_sigmoid(points)), content)
        return made.map(lambda x: expand(x, memory)), None

    def place(self, ref: Reference, content: Tensor, memory: Memory) -> State:
        ref = ref.points()
        return self._at(ref.unit(), ref, content)

    def _at(self, points: Tensor, ref: Reference, content: Tensor) -> State:
        (position,) = self._position
        return State(content, position.points(points), ref, position.point_axes(points))

    def rows(self) -> dict[str, Rows]:
        # Each pattern is combined with each point, so either number may change without the other.
        return dict.fromkeys(('points', 'patterns.'), Rows(QUERIES))


def grid_points(number: int) -> Tensor:
    """(number, 2): centres of the cells of a square grid over the unit square."""
    side = math.isqrt(number)
    if side**2 != number:
        raise ValueError(
            f"anchors='grid' needs a square number of points, got {number}; "
            f'set num_queries={side**2}'
        )
    centres = (torch.arange(side) + 0.5) / side
    return torch.cartesian_prod(centres, centres).flip(-1)

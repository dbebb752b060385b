"""Reference points of learned queries: the three kinds of Conditional DETR, section 3.5."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..checkpoints.rows import QUERIES, Rows
from ..ops.mlp import MLP
from ..registry import MODELS


@MODELS.register_module()
class MLPReference(MLP):
    """A point predicted from the position of each query."""

    def __init__(self, embed_dims: int = 256) -> None:
        super().__init__(embed_dims, embed_dims, 2, 2)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)


@MODELS.register_module()
class LearnedReference(nn.Module):
    """A point for each query that is a parameter."""

    def __init__(self, num_queries: int) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.randn(num_queries, 2))

    def forward(self, pos: Tensor) -> Tensor:
        """(B, N, C), of which only the shape matters -> (B, N, 2)."""
        return self.points[: pos.shape[1]].expand(pos.shape[0], -1, -1)

    def rows(self) -> dict[str, Rows]:
        return {'points': Rows(QUERIES)}


@MODELS.register_module()
class FixedReference(nn.Module):
    """(0, 0) in logit space, the centre of the image, for every query, as in DETR."""

    def forward(self, pos: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, 2)."""
        return pos.new_zeros((*pos.shape[:-1], 2))

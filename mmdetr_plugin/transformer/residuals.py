"""Residual connections: how a step of a layer reads the content and how its output is added."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops.dropout import Dropout
from ..ops.linear import Linear
from ..ops.norms import token_norm
from ..registry import MODELS


class Residual(nn.Module):
    """``x = residual(x, step(residual.enter(x)))`` for every step of a layer."""

    def enter(self, x: Tensor) -> Tensor:
        """The input of the step, (B, N, C)."""
        return x

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """The content (B, N, C) after a step with the output ``update`` (B, N, C)."""
        raise TypeError(f'{type(self).__name__} must define forward(x, update)')


@MODELS.register_module()
class PostNorm(Residual):
    """norm(x + dropout(update)), as in most of the family.

    Args:
        norm: ``LN``, or ``RMS`` (DEIMv2), see :func:`~mmdetr_plugin.ops.norms.token_norm`.
    """

    def __init__(self, embed_dims: int = 256, dropout: float = 0.1, norm: str = 'LN') -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.norm = token_norm(norm, embed_dims)

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        return self.norm(x + self.dropout(update))


@MODELS.register_module()
class PreNorm(PostNorm):
    """x + dropout(update), where the step reads norm(x) (UP-DETR); a norm follows the last layer."""

    def enter(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        return x + self.dropout(update)


@MODELS.register_module()
class GatedFusion(Residual):
    """norm(g1 x + g2 update), the gates predicted from both (D-FINE's target gating layer).

    Args:
        norm: see :class:`PostNorm`.
    """

    def __init__(self, embed_dims: int = 256, norm: str = 'LN') -> None:
        super().__init__()
        self.gate = Linear(2 * embed_dims, 2 * embed_dims)
        self.norm = token_norm(norm, embed_dims)

    def init_weights_(self) -> None:
        """Both gates start at one half."""
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        kept, added = self.gate(torch.cat((x, update), -1)).sigmoid().chunk(2, -1)
        return self.norm(kept * x + added * update)

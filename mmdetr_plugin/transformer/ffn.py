"""The feed-forward part of a layer."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..ops.dropout import Dropout
from ..ops.linear import Linear
from ..registry import MODELS

ACTIVATIONS: dict[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (nn.ReLU, nn.PReLU, nn.GELU, nn.SiLU)
}


@MODELS.register_module()
class FeedForward(nn.Module):
    """Linear, activation, dropout, linear: (..., C) -> (..., C), without the residual."""

    def __init__(
        self,
        embed_dims: int = 256,
        hidden_dims: int = 2048,
        activation: str = 'ReLU',
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(
                f'activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}; change it'
            )
        self.linear1 = Linear(embed_dims, hidden_dims)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(hidden_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        relu = type(self.activation) is nn.ReLU
        hidden = self.linear1(x, relu)
        hidden = self.dropout(hidden if relu else self.activation(hidden))
        return self.linear2(hidden)


@MODELS.register_module()
class GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer, "GLU Variants Improve Transformer", equation 6): (..., C) -> (..., C).

    One projection gives gate and value, of ``hidden_dims`` each; a second one reads silu(gate) value.
    """

    def __init__(
        self, embed_dims: int = 256, hidden_dims: int = 1024, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.enter = Linear(embed_dims, 2 * hidden_dims)
        self.dropout = Dropout(dropout)
        self.leave = Linear(hidden_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.enter(x).chunk(2, -1)
        return self.leave(self.dropout(F.silu(gate) * value))

"""Perceptrons: the feed-forward part of a layer and the heads' MLP."""

from __future__ import annotations

from torch import Tensor, nn

from .ops.dropout import Dropout
from .ops.precision import no_autocast
from .registry import MODELS

ACTIVATIONS: dict[str, type[nn.Module]] = {'ReLU': nn.ReLU, 'PReLU': nn.PReLU, 'GELU': nn.GELU}


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
        self.linear1 = nn.Linear(embed_dims, hidden_dims)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = Dropout(dropout)
        self.linear2 = nn.Linear(hidden_dims, embed_dims)

    def keys(self, layout: str) -> dict[str, str]:
        if layout.startswith('mmdet'):
            places = {'linear1.': '0.0.', 'activation.': '0.1.', 'linear2.': '1.'}
            return {ours: f'layers.{theirs}' for ours, theirs in places.items()}
        if layout.startswith('hf'):
            return {'linear1.': 'fc1.', 'activation.': 'activation_fn.', 'linear2.': 'fc2.'}
        return {}

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class MLP(nn.Module):
    """``num_layers`` linear layers with ReLU between them."""

    def __init__(self, in_dims: int, hidden_dims: int, out_dims: int, num_layers: int) -> None:
        super().__init__()
        widths = [in_dims] + [hidden_dims] * (num_layers - 1) + [out_dims]
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)

    def exact(self, x: Tensor) -> Tensor:
        """The same in the precision of the weights under autocast too: for boxes and places."""
        with no_autocast(x.device):
            return self.forward(x.to(self.layers[0].weight.dtype))

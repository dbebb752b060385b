"""The multilayer perceptron of the heads and position codes."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from .linear import Linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {'ReLU': F.relu, 'SiLU': F.silu}


class MLP(nn.Module):
    """``num_layers`` linear layers with activations between them: (..., in_dims) -> (..., out_dims)."""

    def __init__(
        self,
        in_dims: int,
        hidden_dims: int,
        out_dims: int,
        num_layers: int,
        activation: str = 'ReLU',
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(
                f'activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}; change it'
            )
        self.activation = ACTIVATIONS[activation]
        widths = [in_dims] + [hidden_dims] * (num_layers - 1) + [out_dims]
        self.layers = nn.ModuleList(
            Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)

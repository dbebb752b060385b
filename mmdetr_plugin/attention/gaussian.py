"""Gaussians that guide cross-attention to a place in the image (SMCA, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..ops.gaussian import log_gaussian
from ..ops.linear import Linear
from ..ops.mlp import MLP
from ..ops.precision import in_weight_precision
from ..registry import MODELS
from ..structures import LogitReference, Memory, State

UNIT = 32
"""Stride in pixels at which a steepness of 1 means a variance of 4 cells; it scales with the stride."""


@MODELS.register_module()
class GaussianPrior(nn.Module):
    """A Gaussian for every head of every query, around a point that the query predicts.

    Content and query position, as they enter layer 0, predict a point of the image, which is the
    reference of the query from then on. In each layer they predict, for every head, the offset of its
    Gaussian from that point in cells, and how steeply its attention falls along x and y. With several
    levels they also predict the share of the attention that each level gets (section 3.3).

    Args:
        strides: pixels per cell of every level that the decoder reads.
        make_reference: predict the point; False uses the reference of the queries.
        layer: index of the decoder layer.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        strides: Sequence[int] = (32,),
        make_reference: bool = True,
        layer: int = 0,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.num_heads = num_heads
        values = 2 * num_heads * len(self.strides)
        self.norm = nn.LayerNorm(embed_dims)
        first = make_reference and layer == 0
        self.reference = MLP(embed_dims, embed_dims, 2, 3) if first else None
        self.offsets = Linear(embed_dims, values)
        self.steepness = Linear(embed_dims, values)
        several = len(self.strides) > 1
        self.shares = Linear(embed_dims, len(self.strides)) if several else None

    def init_weights_(self) -> None:
        """Give every head the same steepness."""
        nn.init.zeros_(self.steepness.weight)
        nn.init.ones_(self.steepness.bias)

    def prepare(self, state: State, memory: Memory, layer: int) -> State:
        x = self.norm(state.with_pos())
        if self.reference is not None:
            state = replace(state, ref=LogitReference(in_weight_precision(self.reference, x)))
        state = state.keep(gaussian_offsets=self.offsets(x), gaussian_steepness=self.steepness(x))
        return state if self.shares is None else state.keep(shares=self.shares(x).softmax(-1))

    def forward(self, state: State, memory: Memory) -> tuple[Tensor, Tensor | None]:
        """Logarithms of the Gaussians (B, heads, N, S), never in half precision, and the shares
        (B, N, L) of the levels, or None if there is only one.

        Raises:
            ValueError: the memory has another number of levels, or the queries have no reference.
        """
        if len(self.strides) != len(memory.shapes):
            raise ValueError(
                f'strides must have an entry for each of the {len(memory.shapes)} feature levels, '
                f'got {self.strides}; change prior.strides or the neck'
            )
        if state.ref is None:
            raise ValueError(
                'GaussianPrior needs a reference, got State.ref=None; set '
                'prior.make_reference=True or choose queries that have one'
            )
        pixels = state.ref.points().unit() * memory.image_wh[:, None]  # (B, N, 2)
        layout = (len(self.strides), self.num_heads, 2)
        offsets, steepness = (
            state.carry[f'gaussian_{name}']
            .to(pixels.dtype)
            .unflatten(-1, layout)
            .movedim(1, 3)
            .unbind(1)
            for name in ('offsets', 'steepness')
        )  # per level (B, heads, N, 2)
        biases = []
        for i, (stride, shape) in enumerate(zip(self.strides, memory.shapes, strict=True)):
            centres = pixels[:, None] / stride + offsets[i]
            biases.append(log_gaussian(centres, steepness[i], shape) * (stride / UNIT))
        return torch.cat(biases, -1), state.carry.get('shares')

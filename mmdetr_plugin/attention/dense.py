"""Scaled dot-product attention over all keys (DETR, Vaswani et al. 2017)."""

from __future__ import annotations

from torch import Tensor

from ..ops.linear import linear
from ..registry import MODELS
from ..structures import Memory, State
from .base import GuidedAttention, JoinedProjections, attend, split_heads
from .records import Attention, DenseAttention, attention_weights, key_shapes


class MultiheadAttention(JoinedProjections):
    """Projections of the standard attention."""

    def project(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``q (B, N, C)``, ``k`` and ``v (B, S, C)``, each projected and split into heads."""
        width = q.shape[-1]
        weights, biases = self.in_proj_weight.split(width), self.in_proj_bias.split(width)
        if q is k:
            both = linear(q, self.in_proj_weight[: 2 * width], self.in_proj_bias[: 2 * width])
            q, k = both.chunk(2, -1)
        else:
            q, k = linear(q, weights[0], biases[0]), linear(k, weights[1], biases[1])
        v = linear(v, weights[2], biases[2])
        q, k, v = (split_heads(x, self.num_heads) for x in (q, k, v))
        return q, k, v


@MODELS.register_module()
class SelfAttention(MultiheadAttention):
    """Attention among the tokens of the state; position goes to queries and keys, not to values."""

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        return self.out_proj(attend(*self._inputs(state), state.self_mask, dropout))

    def observe(self, state: State, memory: Memory, layer: int) -> Attention:
        q, k, v = self._inputs(state)
        shapes = key_shapes(state, memory)
        return DenseAttention(v, shapes, attention_weights(q, k, state.self_mask))

    def _inputs(self, state: State) -> tuple[Tensor, Tensor, Tensor]:
        x = state.with_pos()
        return self.project(x, x, state.content)


@MODELS.register_module()
class CrossAttention(GuidedAttention, MultiheadAttention):
    """Attention from the state to every unpadded token of the memory; it may have a ``prior``."""

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        return self.out_proj(self.attend_memory(*self._inputs(state, memory), state, memory))

    def observe(self, state: State, memory: Memory, layer: int) -> Attention:
        return self.observe_memory(*self._inputs(state, memory), state, memory)

    def _inputs(self, state: State, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
        return self.project(state.with_pos(), memory.tokens + memory.pos, memory.tokens)

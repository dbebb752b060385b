"""The contract of an attention op, and what several ops share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..build import build_slot
from ..ops.attention import attend_blocks, takes_blocks
from ..ops.exporting import exporting
from ..ops.linear import Linear
from ..registry import MODELS
from ..structures import Memory, State
from .records import Attention, DenseAttention, attention_weights


class AttentionOp(nn.Module):
    """``op(state, memory, layer) -> (B, N, C)``: the update that the layer adds to the content.

    The signature serves every variant: ops see the 2-D structure of the memory, the reference of the
    queries and the index of the layer. ``prepare`` is called before the first op of the layer runs; it
    is for ops that read the content which enters the layer, or that set the reference.
    """

    def prepare(self, state: State, memory: Memory, layer: int) -> State:
        return state

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        raise TypeError(f'{type(self).__name__} must define forward(state, memory, layer)')

    def observe(self, state: State, memory: Memory, layer: int) -> Attention | None:
        """What ``forward`` with these arguments weighs, for :func:`~.recording.record_attention`; None
        = the op weighs nothing."""
        return None

    def init_weights_(self) -> None:
        """Set the published initial values, where they are not Xavier's."""


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, C) -> (B, heads, N, C / heads)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, heads, N, D) -> (B, N, heads * D)."""
    return x.transpose(1, 2).flatten(2)


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """softmax(q k^T / sqrt(D) + mask) v without materialised weights.

    Args:
        q: (B, heads, N, D).
        k: (B, heads, S, D).
        v: (B, heads, S, E), E may differ from D.
        mask: broadcastable to (B, heads, N, S); bool (True = attend) or added to the scores.
        dropout: share of attention weights dropped.

    Returns:
        (B, N, heads * E).
    """
    if dropout and takes_blocks(q, mask, dropout):
        return join_heads(attend_blocks(q, k, v, mask, dropout))
    width, missing = v.shape[-1], q.shape[-1] - v.shape[-1]
    if 0 < missing <= width and not dropout and q.device.type == 'cpu':
        # Fused on the CPU for values as wide as the keys only, and then twice as fast.
        v = F.pad(v, (0, missing))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    if exporting():  # other runtimes do not order the result as torch's kernel does
        out = out.contiguous()
    return join_heads(out[..., :width])


def clamp_to_dtype(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """``bias`` (B, heads, N, S) converted to ``dtype``; finite values stay finite.

    In fp16 a Gaussian that is far away would become -inf in a whole row, whose softmax is NaN.
    """
    if dtype == torch.float16:
        bias = bias.clamp(min=torch.finfo(dtype).min)
    return bias.to(dtype)


def mask_scores(scores: Tensor, mask: Tensor | None) -> Tensor:
    """``scores`` with -inf where ``mask`` is False, so that a softmax gives these places no weight.

    Args:
        mask: bool, broadcastable to the scores, True = attend; None = everywhere.
    """
    return scores if mask is None else scores.masked_fill(~mask, -torch.inf)


def check_heads(embed_dims: int, num_heads: int) -> None:
    """Raise ValueError unless ``embed_dims`` divides into ``num_heads`` heads."""
    if embed_dims % num_heads:
        raise ValueError(
            f'embed_dims must be divisible by num_heads, got {embed_dims} and {num_heads}; '
            'change one of them'
        )


class JoinedProjections(AttentionOp):
    """Input projections in one matrix, as in ``nn.MultiheadAttention``, and an output projection."""

    inputs = 3
    """How many projections are joined."""

    def __init__(self, embed_dims: int = 256, num_heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(self.inputs * embed_dims, embed_dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(self.inputs * embed_dims))
        self.out_proj = Linear(embed_dims, embed_dims)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)


class GuidedAttention(AttentionOp):
    """Attention to the memory that a prior may guide; a mixin that precedes an op's own base class.

    A prior predicts where each head of each query looks, before queries and keys are compared. It has
    a ``prepare`` as ops have, and ``prior(state, memory) -> (bias, shares)``. The bias (B, heads, N,
    S) is added to the scores. The shares (B, N, L) say how much of the attention each level gets,
    which is then normalised within every level; None = among all tokens.

    Args:
        prior: config of the prior, e.g. ``GaussianPrior``; None = the heads look anywhere.
        layer: index of the decoder layer.
    """

    dropout: float
    """Share of attention weights that are dropped; of the base class that the op adds."""

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        dropout: float = 0.1,
        prior: Mapping | None = None,
        layer: int = 0,
    ) -> None:
        super().__init__(embed_dims, num_heads, dropout)
        self.prior = build_slot(
            MODELS,
            prior,
            'prior',
            embed_dims=embed_dims,
            num_heads=num_heads,
            layer=layer,
        )

    def prepare(self, state: State, memory: Memory, layer: int) -> State:
        return state if self.prior is None else self.prior.prepare(state, memory, layer)

    def attend_memory(
        self, q: Tensor, k: Tensor, v: Tensor, state: State, memory: Memory
    ) -> Tensor:
        """Attend from projected queries (B, heads, N, D) to all tokens that are not padding.

        Args:
            k: (B, heads, S, D).
            v: (B, heads, S, E).

        Returns:
            (B, N, heads * E).
        """
        dropout = self.dropout if self.training else 0.0
        bias, shares = self._guide(state, memory, q.dtype)
        if shares is None or bias is None:
            return attend(q, k, v, bias, dropout)
        sizes = [height * width for height, width in memory.shapes]
        levels = zip(k.split(sizes, 2), v.split(sizes, 2), bias.split(sizes, 3), strict=True)
        outputs = [attend(q, *level, dropout) for level in levels]
        return (torch.stack(outputs, -1) * shares[:, :, None]).sum(-1)

    def observe_memory(
        self, q: Tensor, k: Tensor, v: Tensor, state: State, memory: Memory
    ) -> DenseAttention:
        """What :meth:`attend_memory` weighs."""
        bias, shares = self._guide(state, memory, q.dtype)
        parts = {}
        if bias is not None and self.prior is not None:
            parts['gaussian'] = bias.exp()
        if shares is None or bias is None:
            weights = attention_weights(q, k, bias)
        else:
            sizes = [height * width for height, width in memory.shapes]
            levels = zip(k.split(sizes, 2), bias.split(sizes, 3), shares.unbind(-1), strict=True)
            split = [
                attention_weights(q, *level) * share[:, None, :, None] for *level, share in levels
            ]
            weights = torch.cat(split, -1)
        return DenseAttention(v, memory.shapes, weights, parts)

    def _guide(
        self, state: State, memory: Memory, dtype: torch.dtype
    ) -> tuple[Tensor | None, Tensor | None]:
        """What is added to the scores, or a mask (True = attend), and the shares of the levels."""
        mask = memory.key_mask
        if state.memory_mask is not None:
            mask = state.memory_mask if mask is None else mask & state.memory_mask
        if self.prior is None:
            return mask, None
        bias, shares = self.prior(state, memory)
        return mask_scores(clamp_to_dtype(bias, dtype), mask), shares

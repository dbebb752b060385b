"""Attention with dropout on the CPU that does not keep the attention weights.

torch's fused kernel for the CPU does not support dropout. With dropout torch computes all weights,
draws a random number for each, and keeps three tensors of that size for the backward pass. Here both
passes work on blocks of queries that stay in the cache (Rabe and Staats, "Self-attention does not
need O(n^2) memory", arXiv:2112.05682). The backward pass computes the weights and random bits of a
block again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .dropout import draw_seed, fast_dropout, kept, kept_share

BLOCK = 2**20
"""Attention weights in a block: 4 MiB in single precision."""


def takes_blocks(q: Tensor, mask: Tensor | None, dropout: float) -> bool:
    """Whether :func:`attend_blocks` can compute this call; if not, torch's own function must."""
    learned = mask is not None and mask.requires_grad
    full = q.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled('cpu')
    return 0 < kept_share(dropout) < 1 and fast_dropout(q) and full and not learned


def attend_blocks(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """dropout(softmax(q k^T / sqrt(D) + mask)) v.

    Args:
        q: (B, heads, N, D).
        k: (B, heads, S, D).
        v: (B, heads, S, E).
        mask: broadcastable to (B, heads, N, S); bool (True = attend), or floats that are added to
            the scores. Every query must attend to at least one key.
        dropout: probability of dropping a weight.

    Returns:
        (B, heads, N, E).
    """
    return _Blocks.apply(q, k, v, mask, dropout)


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        dropout: float,
    ) -> Tensor:
        lead = q.shape[:2]
        q, k, v = (q * q.shape[-1] ** -0.5).flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
        ctx.lead, ctx.mask, ctx.dropout, ctx.seed = lead, mask, dropout, draw_seed()
        out = q.new_empty(*q.shape[:2], v.shape[-1])
        for rows, weights, keep in _blocks(ctx, q, k):
            out[:, rows] = weights.mul_(keep) @ v
        out /= kept_share(dropout)
        ctx.save_for_backward(q, k, v, out)
        return out.unflatten(0, lead)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out = ctx.saved_tensors
        grad = grad.flatten(0, 1)
        # For each query, the sum over keys of weight times gradient of the weight.
        inner = (grad * out).sum(-1, keepdim=True)
        grad = grad / kept_share(ctx.dropout)
        grad_q, grad_k, grad_v = (torch.zeros_like(x) for x in (q, k, v))
        for rows, weights, keep in _blocks(ctx, q, k):
            grad_v.baddbmm_((weights * keep).transpose(1, 2), grad[:, rows])
            scores = (grad[:, rows] @ v.transpose(1, 2)).mul_(keep)
            scores.sub_(inner[:, rows]).mul_(weights)
            grad_q[:, rows] = scores @ k
            grad_k.baddbmm_(scores.transpose(1, 2), q[:, rows])
        grad_q *= q.shape[-1] ** -0.5
        return *(x.unflatten(0, ctx.lead) for x in (grad_q, grad_k, grad_v)), None, None


def _blocks(ctx: Any, q: Tensor, k: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield per block: its rows, softmax weights (B * heads, rows, S), 1 / 0 = kept / dropped."""
    number, keys = q.shape[1], k.shape[1]
    mask = ctx.mask
    if mask is not None:
        mask = mask.expand(*ctx.lead, *mask.shape[-2:])
    step = max(16, BLOCK // max(1, len(k) * keys))
    for start in range(0, number, step):
        rows = slice(start, min(start + step, number))
        scores = q[:, rows] @ k.transpose(1, 2)
        if mask is not None:
            part = mask if mask.shape[2] == 1 else mask[:, :, rows]
            heads = scores.unflatten(0, ctx.lead)
            if part.dtype == torch.bool:
                heads.masked_fill_(~part, -torch.inf)
            else:
                heads.add_(part)
        weights = torch.softmax(scores, -1, out=scores)
        keep = kept(weights.shape, ctx.dropout, (ctx.seed + start) % 2**63).to(weights.dtype)
        yield rows, weights, keep

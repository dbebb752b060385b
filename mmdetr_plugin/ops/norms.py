"""Norms of maps and of tokens."""

from __future__ import annotations

from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of every cell."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RMSNorm(nn.RMSNorm):
    """Zhang and Sennrich, "Root Mean Square Layer Normalization": LayerNorm without mean and bias.

    Mixed precision leaves it in the precision of its weights, as it does layer norms.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return super().forward(x.to(self.weight.dtype))


def token_norm(kind: str, dims: int) -> nn.Module:
    """The norm ``kind`` over ``dims`` channels: ``LN`` or ``RMS``.

    Raises:
        ValueError: there is no such norm.
    """
    if kind == 'LN':
        return nn.LayerNorm(dims)
    if kind == 'RMS':
        return RMSNorm(dims, eps=1e-6)
    raise ValueError(f"norm must be 'LN' or 'RMS', got {kind!r}; change it")

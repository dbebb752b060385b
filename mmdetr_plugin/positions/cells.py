"""Codes of the numbers of rows and columns."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..ops.coordinates import sine_code
from ..registry import MODELS
from .maps import SineCodes


@MODELS.register_module()
class CellPosition(SineCodes):
    """Fixed codes of the number of a cell's row and column, not divided by the size of the map.

    The channels are the sines and cosines of the row, then those of the column (RT-DETR's encoder).
    Padding has no influence.

    Args:
        temperature: of the frequencies.
        level_embed, at, num_levels: see :class:`~mmdetr_plugin.positions.PositionEncoding`.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        level_embed: bool | int = False,
        temperature: float = 10000.0,
        at: str = 'attention',
        num_levels: int = 1,
    ) -> None:
        super().__init__(embed_dims, level_embed, temperature, at, num_levels)

    def grid(self, mask: Tensor) -> Tensor:
        batch, height, width = mask.shape
        # Tensors made while tracing must not be used after the trace.
        make = _codes if torch.compiler.is_compiling() else _cached_codes
        code = make(height, width, self.embed_dims, self.temperature, mask.device)
        return code.expand(batch, -1, -1, -1)


def _codes(
    height: int, width: int, embed_dims: int, temperature: float, device: torch.device
) -> Tensor:
    """(H, W, C)."""
    row, column = (
        sine_code(
            torch.arange(size, dtype=torch.float32, device=device),
            embed_dims // 2,
            temperature,
            1.0,
        )
        .unflatten(-1, (-1, 2))
        .mT.flatten(-2)  # all sines, then all cosines
        for size in (height, width)
    )
    grid = (row[:, None].expand(-1, width, -1), column.expand(height, -1, -1))
    return torch.cat(grid, -1)


@lru_cache(maxsize=64)
def _cached_codes(
    height: int, width: int, embed_dims: int, temperature: float, device: torch.device
) -> Tensor:
    with torch.inference_mode(False):  # a later training step may save them for its backward pass
        return _codes(height, width, embed_dims, temperature, device)

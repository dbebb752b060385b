"""Convolutions instead of the encoder's attention (multi-scale SMCA, the authors' code)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..registry import MODELS
from ..structures import Memory, State
from .base import AttentionOp


@MODELS.register_module()
class LevelConvolution(AttentionOp):
    """Depth-wise convolutions within every level and between neighbouring ones.

    First every level is convolved. Then each level adds the next finer one after a strided
    convolution, and the next coarser one after another convolution and bilinear resizing with aligned
    corners. Point-wise convolutions come before and after all this. Padding is not masked, so its
    values reach the neighbouring cells.

    Args:
        num_levels: every level must be half as high and wide as the one before, rounded up.
        kernel_size: of the depth-wise convolutions, odd.
    """

    def __init__(self, embed_dims: int = 256, num_levels: int = 4, kernel_size: int = 7) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd, got {kernel_size}; change it by one')
        depth_wise = partial(
            nn.Conv2d,
            embed_dims,
            embed_dims,
            kernel_size,
            padding=kernel_size // 2,
            groups=embed_dims,
        )
        self.enter = nn.Conv2d(embed_dims, embed_dims, 1)
        self.levels = nn.ModuleList(depth_wise() for _ in range(num_levels))
        self.to_coarser = depth_wise(stride=2)
        self.to_finer = depth_wise()
        self.leave = nn.Conv2d(embed_dims, embed_dims, 1)

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        self._check(memory)
        tokens = self._pointwise(self.enter, state.with_pos())
        sizes = [height * width for height, width in memory.shapes]
        maps = [
            conv(x.unflatten(2, shape).squeeze(-1))
            for conv, x, shape in zip(
                self.levels, tokens.split(sizes, 2), memory.shapes, strict=True
            )
        ]
        mixed = []
        for i, x in enumerate(maps):
            if i > 0:
                x = x + self.to_coarser(maps[i - 1])
            if i < len(maps) - 1:
                x = x + resize(self.to_finer(maps[i + 1]), memory.shapes[i])
            mixed.append(x.flatten(2))
        return self._pointwise(self.leave, torch.cat(mixed, 2).transpose(1, 2))[..., 0].mT

    @staticmethod
    def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
        """(B, S, C) -> (B, C, S, 1): cells of all levels at once."""
        return conv(x.transpose(1, 2).unsqueeze(-1))

    def _check(self, memory: Memory) -> None:
        shapes = memory.shapes
        halves = all(
            finer == (2 * coarser - 1) or finer == 2 * coarser
            for fine, coarse in zip(shapes[:-1], shapes[1:])
            for finer, coarser in zip(fine, coarse)
        )
        if len(shapes) != len(self.levels) or not halves:
            raise ValueError(
                f'LevelConvolution needs num_levels={len(self.levels)} feature levels, each half '
                f'of the one before, got {shapes}; change num_levels or the neck'
            )


def resize(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """(B, C, h, w) resized bilinearly, with aligned corners."""
    return F.interpolate(x, size=shape, mode='bilinear', align_corners=True)

"""Changes the encoder's memory before the decoder reads it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ..registry import MODELS
from ..structures import Memory


@MODELS.register_module()
class FinestLevelDownsampler(nn.Module):
    """Reduces the finest level to the size of the next one by a strided convolution.

    Queries are then compared with a quarter of the finest cells (multi-scale SMCA, the authors' code).
    The result has the padding mask and position codes of the next level. The convolution reads
    padding too.
    """

    def __init__(self, embed_dims: int = 256) -> None:
        super().__init__()
        self.conv = nn.Conv2d(embed_dims, embed_dims, 3, stride=2, padding=1)

    def forward(self, memory: Memory) -> Memory:
        finest = self.conv(memory.maps()[0])
        if len(memory.shapes) < 2 or tuple(finest.shape[-2:]) != memory.shapes[1]:
            raise ValueError(
                'the second feature level must be half of the first, got '
                f'{memory.shapes}; change the neck or leave out decoder.adapter'
            )
        others = slice(memory.starts()[1], None)
        second = memory.level(1)
        axis_pos = memory.axis_pos
        return replace(
            memory,
            tokens=torch.cat((finest.flatten(2).mT, memory.tokens[:, others]), 1),
            pos=torch.cat((second.pos, memory.pos[:, others]), 1),
            mask=torch.cat((second.mask, memory.mask[:, others]), 1),
            shapes=memory.shapes[1:2] + memory.shapes[1:],
            valid_ratios=torch.cat((second.valid_ratios, memory.valid_ratios[:, 1:]), 1),
            axis_pos=None if axis_pos is None else axis_pos[1:2] + axis_pos[1:],
        )

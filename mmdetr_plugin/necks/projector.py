"""The projector between a ViT and a decoder: it joins maps of one stride (LW-DETR, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops.norms import LayerNorm2d
from ..registry import MODELS

Config = Mapping[str, Any]
NORMS: dict[str, Config] = {'BN': {'type': 'BN'}, 'LN': {'type': LayerNorm2d, 'eps': 1e-6}}


class C2f(nn.Module):
    """A block in which every part of a chain of convolutions reaches the output (YOLOv8's C2f).

    Args:
        num_blocks: parts of the chain, two 3 x 3 convolutions each, of half the output's width.
        norm_cfg: norm after every convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, num_blocks: int, norm_cfg: Config
    ) -> None:
        super().__init__()
        width = out_channels // 2
        common: dict[str, Any] = {'norm_cfg': dict(norm_cfg), 'act_cfg': {'type': 'SiLU'}}
        self.enter = ConvModule(in_channels, 2 * width, 1, **common)
        self.leave = ConvModule((2 + num_blocks) * width, out_channels, 1, **common)
        self.chain = nn.ModuleList(
            nn.Sequential(*(ConvModule(width, width, 3, padding=1, **common) for _ in range(2)))
            for _ in range(num_blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.chain:
            parts.append(block(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class Level(nn.Module):
    """One level: every map resized, all joined, a block and a norm."""

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        scale: float,
        num_blocks: int,
        norm_cfg: Config,
    ) -> None:
        super().__init__()
        widths = [width // 2 if scale == 2 else width for width in in_channels]
        self.resize = nn.ModuleList(_resize(width, scale, norm_cfg) for width in in_channels)
        self.block = C2f(sum(widths), out_channels, num_blocks, norm_cfg)
        self.norm = LayerNorm2d(out_channels, eps=1e-6)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        resized = [resize(x) for resize, x in zip(self.resize, maps, strict=True)]
        return self.norm(self.block(torch.cat(resized, 1)))


def _resize(width: int, scale: float, norm_cfg: Config) -> nn.Module:
    if scale == 2:
        return nn.ConvTranspose2d(width, width // 2, 2, 2)
    if scale == 0.5:
        return ConvModule(width, width, 3, 2, padding=1, norm_cfg=dict(norm_cfg))
    return nn.Identity()


@MODELS.register_module()
class MultiScaleProjector(BaseModule):
    """Levels from the maps of a plain ViT, all of which have one stride.

    Args:
        in_channels: of the maps.
        out_channels: of the levels.
        num_outs: number of levels.
        scales: size of each level relative to the maps: 2, 1 or 0.5, the finest first.
        num_blocks: see :class:`C2f`.
        norm: norms within the blocks, ``BN`` or ``LN``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        scales: Sequence[float] = (1.0,),
        num_blocks: int = 3,
        norm: str = 'BN',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(scales) != num_outs or not set(scales) <= {2.0, 1.0, 0.5}:
            raise ValueError(
                f'neck.scales must be one of 2, 1 and 0.5 for each of the {num_outs} levels, got '
                f'{tuple(scales)}; change it or model.num_levels'
            )
        if norm not in NORMS:
            raise ValueError(f'neck.norm must be one of {sorted(NORMS)}, got {norm!r}; change it')
        self.num_maps = len(in_channels)
        self.levels = nn.ModuleList(
            Level(in_channels, out_channels, scale, num_blocks, NORMS[norm]) for scale in scales
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(B, C, h, w) for each map -> (B, out_channels, scale * h, scale * w) for each level."""
        return tuple(level(maps) for level in self.levels)

"""HGNetV2, the backbone of PaddlePaddle that D-FINE and DEIM use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops.folding import fold_norms_
from ..ops.normalise import normalised
from ..registry import MODELS


class StageSize(NamedTuple):
    """What distinguishes a stage from the others; all but the first halve the resolution."""

    mid_channels: int
    out_channels: int
    num_blocks: int


class Arch(NamedTuple):
    """Widths and depths of one size of the network."""

    stem_channels: tuple[int, int]
    stages: tuple[StageSize, ...]
    num_layers: int
    """Convolutions in a block."""


ARCHS: dict[str, Arch] = {
    name: Arch(stem, tuple(StageSize(*stage) for stage in stages), num_layers)
    for name, stem, stages, num_layers in (
        ('B0', (16, 16), ((16, 64, 1), (32, 256, 1), (64, 512, 2), (128, 1024, 1)), 3),
        ('B1', (24, 32), ((32, 64, 1), (48, 256, 1), (96, 512, 2), (192, 1024, 1)), 3),
        ('B2', (24, 32), ((32, 96, 1), (64, 384, 1), (128, 768, 3), (256, 1536, 1)), 4),
        ('B3', (24, 32), ((32, 128, 1), (64, 512, 1), (128, 1024, 3), (256, 2048, 1)), 5),
        ('B4', (32, 48), ((48, 128, 1), (96, 512, 1), (192, 1024, 3), (384, 2048, 1)), 6),
        ('B5', (32, 64), ((64, 128, 1), (128, 512, 2), (256, 1024, 5), (512, 2048, 2)), 6),
    )
}
FIRST_LIGHT = 2
"""From this stage on, convolutions are separated into a pointwise and a 5 x 5 depth-wise one."""


class Affine(nn.Module):
    """One scale and one offset for the whole map."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, self.scale, x)


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU, and an affine block after the ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        padding: int | None = None,
        act: bool = True,
        affine: bool = False,
    ) -> None:
        super().__init__()
        padding = (kernel_size - 1) // 2 if padding is None else padding
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()
        self.lab = Affine() if act and affine else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.lab(normalised(self.bn, self.conv(x), self.act))


class LightConv(nn.Module):
    """A pointwise convolution without activation, then a depth-wise one."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, affine: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels, 1, act=False)
        self.conv2 = ConvNorm(
            out_channels, out_channels, kernel_size, groups=out_channels, affine=affine
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class Stem(nn.Module):
    """A quarter of the resolution, half of it by a pooled and a convolved path side by side."""

    def __init__(self, mid_channels: int, out_channels: int, affine: bool) -> None:
        super().__init__()
        half = mid_channels // 2
        self.stem1 = ConvNorm(3, mid_channels, 3, 2, affine=affine)
        self.stem2a = ConvNorm(mid_channels, half, 2, padding=0, affine=affine)
        self.stem2b = ConvNorm(half, mid_channels, 2, padding=0, affine=affine)
        self.stem3 = ConvNorm(2 * mid_channels, mid_channels, 3, 2, affine=affine)
        self.stem4 = ConvNorm(mid_channels, out_channels, 1, affine=affine)

    def forward(self, images: Tensor) -> Tensor:
        below_right = (0, 1, 0, 1)
        x = F.pad(self.stem1(images), below_right)
        convolved = self.stem2b(F.pad(self.stem2a(x), below_right))
        pooled = F.max_pool2d(x, 2, stride=1)
        return self.stem4(self.stem3(torch.cat((pooled, convolved), 1)))


class Block(nn.Module):
    """Convolutions one after the other, whose outputs are all joined with the block's input."""

    def __init__(
        self,
        in_channels: int,
        size: StageSize,
        num_layers: int,
        light: bool,
        residual: bool,
        affine: bool,
    ) -> None:
        super().__init__()
        mid, out = size.mid_channels, size.out_channels
        widths = [in_channels] + [mid] * (num_layers - 1)
        kernel_size = 5 if light else 3
        layer = LightConv if light else ConvNorm
        self.layers = nn.ModuleList(
            layer(width, mid, kernel_size, affine=affine) for width in widths
        )
        self.aggregation = nn.Sequential(
            ConvNorm(in_channels + num_layers * mid, out // 2, 1, affine=affine),
            ConvNorm(out // 2, out, 1, affine=affine),
        )
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        out = self.aggregation(torch.cat(outputs, 1))
        return out + x if self.residual else out


class Stage(nn.Module):
    """Blocks of one width, after a halving of the resolution in all stages but the first."""

    def __init__(
        self, in_channels: int, size: StageSize, index: int, num_layers: int, affine: bool
    ) -> None:
        super().__init__()
        self.downsample: nn.Module = nn.Identity()
        if index:
            self.downsample = ConvNorm(
                in_channels, in_channels, 3, 2, groups=in_channels, act=False
            )
        widths = [in_channels] + [size.out_channels] * (size.num_blocks - 1)
        light = index >= FIRST_LIGHT
        self.blocks = nn.Sequential(
            *(
                Block(width, size, num_layers, light, i > 0, affine)
                for i, width in enumerate(widths)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x))


@MODELS.register_module()
class HGNetV2(BaseModule):
    """PP-HGNetV2 as in D-FINE, with the names of its files of ImageNet weights.

    Args:
        arch: ``B0`` to ``B5``.
        out_indices: stages whose maps are returned; stage ``i`` has stride 4 x 2^i.
        affine: a learned scale and offset after each activation, as published from B0 to B2.
        frozen_stages: -1: everything is trained; 0: all but the stem; 1: all but the stem and the first
            stage, and so on.
        frozen_norms: batch norms are not trained and keep their statistics.
        width: factor of all widths, for tests; 1 is the published network.

    Raises:
        ValueError: there is no such size, stage or width.
    """

    def __init__(
        self,
        arch: str = 'B0',
        out_indices: Sequence[int] = (1, 2, 3),
        affine: bool = True,
        frozen_stages: int = -1,
        frozen_norms: bool = False,
        width: float = 1.0,
        init_cfg: Mapping | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if arch not in ARCHS:
            raise ValueError(
                f'backbone.arch must be one of {sorted(ARCHS)}, got {arch!r}; change it'
            )
        size = scaled(ARCHS[arch], width)
        number = len(size.stages)
        if not set(out_indices) <= set(range(number)) or not -1 <= frozen_stages <= number:
            raise ValueError(
                f'backbone.out_indices must lie in 0..{number - 1} and frozen_stages in -1..{number}, '
                f'got {tuple(out_indices)} and {frozen_stages}; change them'
            )
        self.out_indices = tuple(out_indices)
        self.frozen_stages, self.frozen_norms = frozen_stages, frozen_norms
        self.stem = Stem(*size.stem_channels, affine)
        widths = [size.stem_channels[1], *(stage.out_channels for stage in size.stages)]
        self.stages = nn.ModuleList(
            Stage(widths[i], stage, i, size.num_layers, affine)
            for i, stage in enumerate(size.stages)
        )
        self.out_channels = [widths[i + 1] for i in self.out_indices]
        fold_norms_(self)
        self._freeze()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> (B, C, h, w) for each of ``out_indices``."""
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            maps.append(x := stage(x))
        return tuple(maps[i] for i in self.out_indices)

    def train(self, mode: bool = True) -> HGNetV2:
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        for part in [self.stem, *self.stages][: self.frozen_stages + 1]:
            part.eval().requires_grad_(False)
        for part in self.modules():
            if self.frozen_norms and isinstance(part, _BatchNorm):
                part.eval().requires_grad_(False)


def scaled(arch: Arch, width: float) -> Arch:
    """The network with all widths multiplied.

    Raises:
        ValueError: a width is then no multiple of two.
    """
    if width == 1:
        return arch

    def times(channels: int) -> int:
        result = channels * width
        if result < 2 or result % 2:
            raise ValueError(
                f'backbone.width must give even numbers of channels, got {width} of {channels}; '
                'choose a power of two'
            )
        return int(result)

    stem = (times(arch.stem_channels[0]), times(arch.stem_channels[1]))
    stages = tuple(
        StageSize(times(s.mid_channels), times(s.out_channels), s.num_blocks) for s in arch.stages
    )
    return Arch(stem, stages, arch.num_layers)

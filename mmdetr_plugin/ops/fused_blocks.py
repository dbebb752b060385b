"""Blocks of torch, mmcv and mmdet whose products, norms, sums and activations are computed together.

The blocks keep their parameters and names; :func:`fuse_blocks_` changes their class alone, and whatever
the faster functions do not know runs as before.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmcv.cnn import ConvModule
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from .linear import Linear
from .normalise import normalised


class FusedConvModule(ConvModule):
    """mmcv's convolution, norm and activation."""

    def forward(self, x: Tensor, activate: bool = True, norm: bool = True) -> Tensor:
        usual = self.order == ('conv', 'norm', 'act') and not self.with_explicit_padding
        if not (usual and norm and self.with_norm) or self.efficient_conv_bn_eval_forward:
            return super().forward(x, activate, norm)
        activation = self.activate if activate and self.with_activation else None
        return normalised(self.norm, self.conv(x), activation)


def chained(parts: Iterable[nn.Module], x: Tensor) -> Tensor:
    """One part after the other; batch norms take the ReLU after them."""
    rest = list(parts)
    while rest:
        part = rest.pop(0)
        if not isinstance(part, nn.BatchNorm2d):
            x = part(x)
            continue
        relu = rest.pop(0) if rest and type(rest[0]) is nn.ReLU else None
        x = normalised(part, x, relu)
    return x


class FusedSequential(nn.Sequential):
    """A chain with :func:`chained` norms."""

    def forward(self, x: Tensor) -> Tensor:
        return chained(self, x)


class FusedBasicBlock(BasicBlock):
    """mmdet's block of ResNet-18 and 34."""

    def forward(self, x: Tensor) -> Tensor:
        if self.with_cp:
            return super().forward(x)
        out = normalised(self.norm1, self.conv1(x), self.relu)
        shortcut = x if self.downsample is None else self.downsample(x)
        return normalised(self.norm2, self.conv2(out), self.relu, shortcut)


class FusedBottleneck(Bottleneck):
    """mmdet's block of ResNet-50 and deeper."""

    def forward(self, x: Tensor) -> Tensor:
        if self.with_cp or self.with_plugins:
            return super().forward(x)
        out = normalised(self.norm1, self.conv1(x), self.relu)
        out = normalised(self.norm2, self.conv2(out), self.relu)
        shortcut = x if self.downsample is None else self.downsample(x)
        return normalised(self.norm3, self.conv3(out), self.relu, shortcut)


FUSED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: Linear,
    ConvModule: FusedConvModule,
    nn.Sequential: FusedSequential,
    BasicBlock: FusedBasicBlock,
    Bottleneck: FusedBottleneck,
}


def fuse_blocks_(module: nn.Module) -> None:
    """Give every block in ``module`` the class that computes its parts together."""
    for part in module.modules():
        fused = FUSED.get(type(part))
        if fused is not None and (fused is not FusedSequential or _has_norm(part)):
            part.__class__ = fused


def _has_norm(chain: nn.Module) -> bool:
    return any(isinstance(part, nn.BatchNorm2d) for part in chain.children())

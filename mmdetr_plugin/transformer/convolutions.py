"""Blocks of convolutions that join two feature maps in a hybrid encoder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from mmcv.cnn import ConvModule, build_activation_layer
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops.folding import folded_kernel
from ..ops.normalise import normalised_parts, normalised_sum, takes_loops
from ..registry import MODELS

NORM = {'type': 'BN'}
ACTIVATION = {'type': 'SiLU'}


class RepVGGBlock(nn.Module):
    """A 3 x 3 and a 1 x 1 convolution, each with its norm, summed, then the activation.

    Ding et al., "RepVGG", CVPR 2021, without the identity branch. In evaluation mode both run as one
    convolution; :meth:`fold_` makes this permanent.
    """

    def __init__(self, in_channels: int, out_channels: int, act_cfg: Mapping = ACTIVATION) -> None:
        super().__init__()
        options = {'norm_cfg': NORM, 'act_cfg': None}
        self.conv3 = ConvModule(in_channels, out_channels, 3, padding=1, **options)
        self.conv1 = ConvModule(in_channels, out_channels, 1, **options)
        self.activation = build_activation_layer(dict(act_cfg))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H, W)."""
        if isinstance(self.conv3, nn.Conv2d):
            return self.activation(self.conv3(x))
        if self.training:
            norms, maps = zip(*((part.norm, part.conv(x)) for part in (self.conv3, self.conv1)))
            return normalised_sum(norms, maps, self.activation)
        kernel, bias = self.kernel()
        return self.activation(F.conv2d(x, kernel, bias, padding=1))

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weights (D, C, 3, 3) and bias (D,) of the one convolution that is equal in evaluation."""
        wide, wide_bias = folded_kernel(self.conv3.conv, self.conv3.norm)
        narrow, narrow_bias = folded_kernel(self.conv1.conv, self.conv1.norm)
        return wide + F.pad(narrow, (1, 1, 1, 1)), wide_bias + narrow_bias

    @torch.no_grad()
    def fold_(self) -> None:
        """Replace both branches by one convolution."""
        if isinstance(self.conv3, nn.Conv2d):
            return
        kernel, bias = self.kernel()
        self.conv3 = nn.Conv2d(kernel.shape[1], len(kernel), 3, padding=1)
        self.conv3.weight, self.conv3.bias = nn.Parameter(kernel), nn.Parameter(bias)
        del self.conv1


@MODELS.register_module()
class CSPRepBlock(nn.Module):
    """Two 1 x 1 convolutions of the input, one followed by RepVGG blocks, and their sum (RT-DETR).

    Args:
        in_channels, out_channels: of the maps.
        hidden_channels: width between; None = ``out_channels``. If it differs from
            ``out_channels``, a third 1 x 1 convolution follows.
        num_blocks: number of RepVGG blocks.
        joined: whether one convolution of twice the width makes both (DEIMv2).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int | None = None,
        num_blocks: int = 3,
        joined: bool = False,
    ) -> None:
        super().__init__()
        hidden = hidden_channels or out_channels
        options = {'norm_cfg': NORM, 'act_cfg': ACTIVATION}
        self.conv1 = ConvModule(in_channels, 2 * hidden if joined else hidden, 1, **options)
        self.conv2 = None if joined else ConvModule(in_channels, hidden, 1, **options)
        self.blocks = nn.Sequential(*(RepVGGBlock(hidden, hidden) for _ in range(num_blocks)))
        self.conv3 = None
        if hidden != out_channels:
            self.conv3 = ConvModule(hidden, out_channels, 1, **options)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H, W)."""
        if self.conv2 is None:
            kept, entered = self.conv1(x).chunk(2, 1)
        else:
            kept, entered = convolve_both(self.conv2, self.conv1, x)
        out = self.blocks(entered) + kept
        return out if self.conv3 is None else self.conv3(out)


def convolve_both(first: ConvModule, second: ConvModule, x: Tensor) -> tuple[Tensor, Tensor]:
    """``first(x), second(x)`` for 1 x 1 convolutions with norms and equal activations.

    In training on the CPU one convolution of both widths reads the map once.
    """
    pair = (first, second)
    norms = [part.norm for part in pair]
    plain = all(isinstance(part.conv, nn.Conv2d) and not part.conv._forward_hooks for part in pair)
    if not plain or not takes_loops(norms, [x], first.activate):
        return first(x), second(x)
    joined = F.conv2d(x, torch.cat([part.conv.weight for part in pair]))
    one, other = normalised_parts(norms, joined, first.activate)
    return one, other

"""The convolutions with which D-FINE and DEIMv2 join and halve maps in their hybrid encoders."""

from __future__ import annotations

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from ..registry import MODELS
from .convolutions import ACTIVATION, NORM, CSPRepBlock


@MODELS.register_module()
class RepNCSPELAN4(nn.Module):
    """Joins the outputs of all steps: two halves of the input, and two blocks one after the other
    (Wang et al., "YOLOv9", GELAN; D-FINE, appendix).

    Args:
        in_channels, out_channels: of the maps.
        expansion: width of the blocks, in halves of ``out_channels``, rounded down.
        num_blocks: RepVGG blocks in each of the two.
        joined: see :class:`CSPRepBlock`.
        smooth: whether a 3 x 3 convolution follows each of the two (D-FINE; DEIMv2 has none).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: float = 1.0,
        num_blocks: int = 3,
        joined: bool = False,
        smooth: bool = True,
    ) -> None:
        super().__init__()
        width = int(expansion * out_channels / 2)
        options = {'norm_cfg': NORM, 'act_cfg': ACTIVATION}
        self.enter = ConvModule(in_channels, 2 * out_channels, 1, **options)
        self.first, self.second = (
            nn.Sequential(CSPRepBlock(channels, width, num_blocks=num_blocks, joined=joined))
            for channels in (out_channels, width)
        )
        if smooth:
            for part in (self.first, self.second):
                part.append(ConvModule(width, width, 3, padding=1, **options))
        self.leave = ConvModule(2 * (out_channels + width), out_channels, 1, **options)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H, W)."""
        entered = self.enter(x)
        # A copy: each of the two convolutions that read this half would make one of its own.
        first = self.first(entered.chunk(2, 1)[1].clone())
        return self.leave(torch.cat((entered, first, self.second(first)), 1))


@MODELS.register_module()
class SeparableDownsample(nn.Sequential):
    """A pointwise convolution, then a depth-wise one of stride 2; no activation (YOLOv10; D-FINE)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 2) -> None:
        options = {'norm_cfg': NORM, 'act_cfg': None}
        super().__init__(
            ConvModule(in_channels, out_channels, 1, **options),
            ConvModule(out_channels, out_channels, 3, stride, 1, groups=out_channels, **options),
        )

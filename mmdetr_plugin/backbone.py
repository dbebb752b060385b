"""The backbone in torchvision's layout."""

from __future__ import annotations

from mmdet.models.backbones import ResNet as MMDetResNet
from torch import nn

from .registry import MODELS


@MODELS.register_module()
class DilatedResNet(MMDetResNet):
    """mmdet's ResNet, dilated as torchvision does it (the DC5 models).

    A stage whose stride became dilation keeps the dilation of the stage before it in its first block;
    mmdet dilates every block.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        before = 1
        for name, dilation in zip(self.res_layers, self.dilations, strict=False):
            conv = self._widest(getattr(self, name)[0])
            if dilation != before:
                conv.dilation = conv.padding = (before, before)
            before = dilation

    @staticmethod
    def _widest(block: nn.Module) -> nn.Conv2d:
        """The convolution of a block that mmdet dilates: conv2 of a bottleneck, conv1 else."""
        return block.conv2 if hasattr(block, 'conv3') else block.conv1

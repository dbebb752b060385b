"""mmdet's ResNet with torchvision's dilation and with folded batch norms."""

from __future__ import annotations

from mmdet.models.backbones import ResNet as MMDetResNet
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from ..ops.folding import fold_norms_, unfold_replaced_
from ..ops.fused_blocks import chained, fuse_blocks_
from ..ops.normalise import normalised_max
from ..registry import MODELS


@MODELS.register_module()
class DilatedResNet(MMDetResNet):
    """mmdet's ResNet with torchvision's dilation, which the DC5 models use.

    If a stage has dilation in place of its stride, its first block keeps the dilation of the stage
    before; mmdet dilates every block. Norms in evaluation mode (``norm_eval``) are folded into the
    convolutions before them.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        before = 1
        for name, dilation in zip(self.res_layers, self.dilations, strict=False):
            conv = self._dilated_conv(getattr(self, name)[0])
            if dilation != before:
                conv.dilation = conv.padding = (before, before)
            before = dilation
        fold_norms_(self)
        fuse_blocks_(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self._pooled_stem(x)
        outs = []
        for i, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def _pooled_stem(self, x: Tensor) -> Tensor:
        *before, norm, relu = self.stem if self.deep_stem else (self.conv1, self.norm1, self.relu)
        return normalised_max(norm, chained(before, x), relu, self.maxpool)

    def train(self, mode: bool = True) -> DilatedResNet:
        super().train(mode)
        unfold_replaced_(self)
        return self

    @staticmethod
    def _dilated_conv(block: BasicBlock | Bottleneck) -> nn.Conv2d:
        """The convolution that mmdet dilates: conv2 of a bottleneck, conv1 of a basic block."""
        return block.conv2 if hasattr(block, 'conv3') else block.conv1

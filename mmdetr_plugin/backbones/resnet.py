"""The backbone in torchvision's layout."""

from __future__ import annotations

from mmdet.models.backbones import ResNet as MMDetResNet
from torch import Tensor, nn

from ..registry import MODELS


class FoldedConv2d(nn.Conv2d):
    """A convolution that does the work of the frozen norm behind it.

    The factors of the norm multiply the weights, which are small, and not the output: the same up to
    rounding, gradients too, without a pass over the map forward and another one backward.
    """

    behind: tuple[nn.BatchNorm2d]  # in a tuple: the norm is a part of the backbone

    def forward(self, x: Tensor) -> Tensor:
        (norm,) = self.behind
        # There is a bias once mmcv's `fuse_conv_bn` has done this for good.
        if norm.training or self.bias is not None:
            return super().forward(x)
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        bias = norm.bias - norm.running_mean * scale
        return self._conv_forward(x, self.weight * scale[:, None, None, None], bias)


class FoldedNorm(nn.BatchNorm2d):
    """A norm in evaluation mode whose work the convolution before it does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training else x


def fold_norms_(module: nn.Module) -> None:
    """Let every convolution without bias that is followed by a batch norm do its work as well.

    Neighbours count, as in mmcv's ``fuse_conv_bn``: a ResNet names its parts in their order.
    """
    before = None
    for child in module.children():
        if type(child) is nn.BatchNorm2d and type(before) is nn.Conv2d and before.bias is None:
            before.__class__, child.__class__ = FoldedConv2d, FoldedNorm
            before.behind = (child,)
        before = child
        fold_norms_(child)


@MODELS.register_module()
class DilatedResNet(MMDetResNet):
    """mmdet's ResNet, dilated as torchvision does it (the DC5 models).

    A stage whose stride became dilation keeps the dilation of the stage before it in its first block;
    mmdet dilates every block. Norms in evaluation mode (``norm_eval``) are folded into the
    convolutions before them.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        before = 1
        for name, dilation in zip(self.res_layers, self.dilations, strict=False):
            conv = self._widest(getattr(self, name)[0])
            if dilation != before:
                conv.dilation = conv.padding = (before, before)
            before = dilation
        fold_norms_(self)

    def train(self, mode: bool = True) -> DilatedResNet:
        super().train(mode)
        parts = set(self.modules())
        for part in parts:  # a norm that was replaced, by SyncBatchNorm for one, does its own work
            if isinstance(part, FoldedConv2d) and part.behind[0] not in parts:
                part.__class__ = nn.Conv2d
        return self

    @staticmethod
    def _widest(block: nn.Module) -> nn.Conv2d:
        """The convolution of a block that mmdet dilates: conv2 of a bottleneck, conv1 else."""
        return block.conv2 if hasattr(block, 'conv3') else block.conv1

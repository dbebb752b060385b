"""A detector whose weights will not change any more."""

from __future__ import annotations

from mmcv.cnn import fuse_conv_bn
from torch import nn

from .transformer.convolutions import RepVGGBlock


def fold_for_deployment_(model: nn.Module) -> nn.Module:
    """Merge batch norms and the branches of RepVGG blocks into convolutions, in place.

    Predictions stay the same up to rounding. The parameters have other names afterwards: load weights
    before, and do not train the model.

    Returns:
        ``model``, in evaluation mode.
    """
    for part in model.eval().modules():
        if isinstance(part, RepVGGBlock):
            part.fold_()
    return fuse_conv_bn(model)

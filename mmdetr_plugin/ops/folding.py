"""Batch norms that the convolution before them applies in evaluation mode."""

from __future__ import annotations

from torch import Tensor, nn


class FoldedConv2d(nn.Conv2d):
    """A convolution that also applies the frozen batch norm that follows it.

    The scale of the norm multiplies the convolution's weights, which are small, instead of its output.
    Outputs and gradients are the same up to rounding, and one pass over the feature map is saved in
    the forward and in the backward pass.
    """

    folded_norm: tuple[nn.BatchNorm2d]  # a tuple, so that the norm is not registered a second time

    def forward(self, x: Tensor) -> Tensor:
        (norm,) = self.folded_norm
        # A bias exists if mmcv's `fuse_conv_bn` has already merged the norm into the weights.
        if norm.training or self.bias is not None:
            return super().forward(x)
        return self._conv_forward(x, *folded_kernel(self, norm))


def folded_kernel(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weights and bias of ``conv``, which has no bias, with ``norm`` after it in evaluation mode."""
    assert norm.running_mean is not None and norm.running_var is not None, 'see fold_norms_'
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


class FoldedNorm(nn.BatchNorm2d):
    """A batch norm that the convolution before it applies in evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training else x


def fold_norms_(module: nn.Module) -> None:
    """Fold every batch norm into the convolution before it, if that has no bias.

    A norm follows a convolution if it is the next child of the same module, as in mmcv's
    ``fuse_conv_bn``: ResNets and ``ConvModule`` register their parts in their order. Norms without
    running statistics are left as they are.
    """
    before = None
    for child in module.children():
        if type(before) is nn.Conv2d and type(child) is nn.BatchNorm2d:
            _fold_(before, child)
        before = child
        fold_norms_(child)


def _fold_(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    if conv.bias is not None or not norm.track_running_stats:
        return
    conv.__class__, norm.__class__ = FoldedConv2d, FoldedNorm
    assert isinstance(conv, FoldedConv2d)
    conv.folded_norm = (norm,)


def unfold_replaced_(module: nn.Module) -> None:
    """Undo the folding of norms that have since been replaced, e.g. by SyncBatchNorm."""
    parts = set(module.modules())
    for part in parts:
        if isinstance(part, FoldedConv2d) and part.folded_norm[0] not in parts:
            _unfold_(part)


def _unfold_(conv: nn.Conv2d) -> None:
    conv.__class__ = nn.Conv2d

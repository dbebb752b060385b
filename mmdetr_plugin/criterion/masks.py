"""Losses of the masks of matched queries (DETR, section 4.4 and appendix A.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..ops.focal import focal_of_negatives
from ..registry import MODELS
from .losses import ElementwiseLoss
from .matched import Matched

_CHUNK = 8  # masks at full resolution at a time


class MaskLoss(ElementwiseLoss):
    """A loss of the masks of the last layer, of branches that have masks.

    Predictions are resized to the masks of the objects, whose padding counts as background. Only a
    few masks at a time have that size; the backward pass computes them again.
    """

    def of_matched(self, matched: Matched) -> Tensor:
        if matched.masks is None:
            return matched.logits.new_empty(0)
        pred, target = matched.masks

        def total(pred: Tensor, target: Tensor) -> Tensor:
            wide = F.interpolate(pred[:, None], size=target.shape[-2:], mode='bilinear')
            return self.elementwise(wide.flatten(1), target.flatten(1)).sum()

        parts = list(zip(pred.split(_CHUNK), target.split(_CHUNK), strict=True))
        if len(parts) > 1:
            sums = [checkpoint(total, *part, use_reentrant=False) for part in parts]
        else:
            sums = [total(*part) for part in parts]
        return (self.loss_weight * torch.stack(sums).sum() / matched.num_boxes)[None]


@MODELS.register_module()
class MaskFocalLoss(MaskLoss):
    """Sigmoid focal loss (Lin et al., ICCV 2017), averaged over the pixels of a mask."""

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        loss_weight: float = 1.0,
        reduction: str = 'mean',
    ) -> None:
        super().__init__(reduction, loss_weight)
        self.alpha, self.gamma = alpha, gamma

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """(n,) of logits (n, P) and masks (n, P)."""
        inside = target > 0
        loss = focal_of_negatives(torch.where(inside, -pred, pred), self.gamma)
        return (loss * torch.where(inside, self.alpha, 1 - self.alpha)).mean(1)


@MODELS.register_module()
class MaskDiceLoss(MaskLoss):
    """1 - (2 p t + 1) / (p + t + 1), sums over the pixels of a mask (DETR, equation 11)."""

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """(n,) of logits (n, P) and masks (n, P)."""
        prob, target = pred.sigmoid(), target.to(pred.dtype)
        overlap = (prob * target).sum(1)
        return 1 - (2 * overlap + 1) / (prob.sum(1) + target.sum(1) + 1)

"""Losses of the masks of matched queries (DETR, section 4.4 and appendix A.2)."""

from collections.abc import Mapping, Sequence

import torch
from mmdet.structures.mask import BaseInstanceMasks
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..registry import MODELS
from .losses import SetLoss
from .sources import Matches, full_precision
from .targets import Targets

_CHUNK = 8  # masks at full resolution at a time


@MODELS.register_module()
class MaskFocalLoss(SetLoss):
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
        logits = torch.where(inside, -pred, pred)  # high where a pixel is wrong
        loss = logits.sigmoid().pow(self.gamma) * F.softplus(logits)
        return (loss * torch.where(inside, self.alpha, 1 - self.alpha)).mean(1)


@MODELS.register_module()
class MaskDiceLoss(SetLoss):
    """1 - (2 p t + 1) / (p + t + 1), sums over the pixels of a mask (DETR, equation 11)."""

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """(n,) of logits (n, P) and masks (n, P)."""
        prob, target = pred.sigmoid(), target.to(pred.dtype)
        overlap = (prob * target).sum(1)
        return 1 - (2 * overlap + 1) / (prob.sum(1) + target.sum(1) + 1)


def mask_losses(
    losses: Mapping[str, SetLoss], pred: Tensor, target: Tensor, num_boxes: Tensor
) -> dict[str, Tensor]:
    """Weighted losses by name, over ``num_boxes``.

    Predictions are resized to the masks, whose padding counts as background. A few masks at a time
    are so large; with a gradient they are computed again rather than kept.

    Args:
        pred: (M, h, w) logits.
        target: (M, H, W) bool.
    """

    def terms(pred: Tensor, target: Tensor) -> Tensor:
        wide = F.interpolate(pred[:, None], size=target.shape[-2:], mode='bilinear')
        wide, target = wide.flatten(1), target.flatten(1)
        return torch.stack([loss.elementwise(wide, target).sum() for loss in losses.values()])

    parts = list(zip(full_precision(pred).split(_CHUNK), target.split(_CHUNK), strict=True))
    if len(parts) > 1:
        sums = [checkpoint(terms, *part, use_reentrant=False) for part in parts]
    else:
        sums = [terms(*part) for part in parts]
    total = torch.stack(sums).sum(0) / num_boxes
    return {
        name: loss.loss_weight * value
        for (name, loss), value in zip(losses.items(), total.unbind(), strict=True)
    }


def matched_masks(targets: Targets, match: Matches, device: torch.device) -> Tensor:
    """(M, H, W) bool: the masks of the last layer's matched objects on the batch's canvas.

    Raises:
        ValueError: objects without masks, or masks larger than the canvas.
    """
    height, width = targets.canvas
    rows = []
    for (_, objects), masks, labels in zip(
        match.per_image(-1), targets.masks, targets.labels, strict=True
    ):
        if masks is None and len(labels):
            raise ValueError(
                'the mask losses need gt_instances.masks, got objects without; load them '
                '(LoadAnnotations with with_mask=True, LoadPanopticSegments), or set '
                'criterion.loss_mask=None and criterion.loss_dice=None'
            )
        if masks is None:
            rows.append(torch.zeros(0, height, width, dtype=torch.bool, device=device))
            continue
        chosen = _as_tensor(masks, device).index_select(0, objects)
        below, right = height - chosen.shape[-2], width - chosen.shape[-1]
        if below < 0 or right < 0:
            raise ValueError(
                f'masks must fit the padded batch of {height} x {width} pixels, got '
                f'{tuple(chosen.shape[-2:])}; do not resize images without their masks'
            )
        rows.append(F.pad(chosen > 0, (0, right, 0, below)))
    return torch.cat(rows)


def _as_tensor(masks: BaseInstanceMasks | Tensor | Sequence, device: torch.device) -> Tensor:
    """(n, h, w) of mmdet's bitmap or polygon masks, or of an array."""
    if isinstance(masks, BaseInstanceMasks):
        return masks.to_tensor(torch.uint8, device)
    return torch.as_tensor(masks, device=device)

"""Losses of a set of matched queries.

Each has two faces: ``of_layers``, vectorised over decoder layers, images and objects, for our
criterion, and mmdet's ``forward(pred, target, weight, avg_factor, reduction_override)``.
"""

from collections.abc import Sequence

import torch
from mmdet.models.losses.utils import weight_reduce_loss
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops.boxes import cxcywh_to_xyxy, elementwise_giou
from ..registry import MODELS
from .distributed import mean_over_ranks
from .sources import full_precision


class SetLoss(nn.Module):
    """mmdet's calling convention around an element-wise loss."""

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__()
        self.reduction = reduction
        self.loss_weight = loss_weight

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """Loss of every row or entry of ``pred``, unweighted."""
        raise NotImplementedError

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """The weighted loss; ``weight`` is per row or per entry of ``pred``."""
        loss = self.elementwise(full_precision(pred), target)
        if weight is not None and weight.dim() != loss.dim():
            # Weights (n, 4) of a loss (n,) are equal along a row; (n,) of a loss (n, K) spread out.
            weight = weight.mean(-1) if weight.dim() > loss.dim() else weight.unsqueeze(-1)
        reduction = reduction_override or self.reduction
        return weight_reduce_loss(loss, weight, reduction, avg_factor) * self.loss_weight


@MODELS.register_module()
class FocalClassLoss(SetLoss):
    """Sigmoid focal loss (Lin et al., ICCV 2017), summed over queries and classes.

    Labels are columns; a column that no label names (SMCA's last) is trained as never present.
    """

    use_sigmoid = True

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        loss_weight: float = 1.0,
        reduction: str = 'mean',
        use_sigmoid: bool = True,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if not use_sigmoid:
            raise ValueError('FocalClassLoss needs use_sigmoid=True; use SoftmaxClassLoss instead')
        self.alpha, self.gamma = alpha, gamma

    def check_width(self, width: int, num_classes: int) -> None:
        """Raise ValueError if the class head is too narrow."""
        if width < num_classes:
            raise ValueError(
                f'a sigmoid class head needs num_classes = {num_classes} columns, got {width}; '
                'state num_classes once, at the model'
            )

    def of_layers(self, logits: Tensor, query: Tensor, labels: Tensor, num_boxes: Tensor) -> Tensor:
        """(L,) of logits (L, Q, K), queries (L, M) having labels (L, M), over ``num_boxes``."""
        index = query * logits.shape[-1] + labels
        flat = logits.flatten(1)
        # sigmoid(-x) = 1 - sigmoid(x): with the sign of positives turned, one formula serves all.
        loss = self._negatives(flat.scatter(1, index, -flat.gather(1, index)))
        positives = loss.gather(1, index).sum(1)
        total = (1 - self.alpha) * loss.sum(1) + (2 * self.alpha - 1) * positives
        return self.loss_weight * total / num_boxes

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """(n, K) of logits (n, K) and labels (n,); a label >= K is background."""
        positive = target.unsqueeze(-1) == torch.arange(pred.shape[-1], device=pred.device)
        loss = self._negatives(torch.where(positive, -pred, pred))
        return loss * torch.where(positive, self.alpha, 1 - self.alpha)

    def _negatives(self, logits: Tensor) -> Tensor:
        return logits.sigmoid().pow(self.gamma) * F.softplus(logits)


@MODELS.register_module()
class SoftmaxClassLoss(SetLoss):
    """Cross-entropy with a down-weighted last column, 'no object' (DETR, section 3.1).

    Args:
        background_weight: of the last column; others have 1.
        sync_weight: the weighted mean is over the queries of this process, as published; this
            averages the sum of weights over processes, so that gradients do not depend on how the
            images are spread over them.
        class_weight: (K,), instead of 1, ..., 1, background_weight.
    """

    use_sigmoid = False

    def __init__(
        self,
        background_weight: float = 0.1,
        loss_weight: float = 1.0,
        sync_weight: bool = False,
        class_weight: Tensor | Sequence[float] | None = None,
        reduction: str = 'mean',
        use_sigmoid: bool = False,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if use_sigmoid:
            raise ValueError('SoftmaxClassLoss needs use_sigmoid=False; use FocalClassLoss instead')
        self.background_weight = background_weight
        self.sync_weight = sync_weight
        self.class_weight = None if class_weight is None else torch.as_tensor(class_weight)

    def check_width(self, width: int, num_classes: int) -> None:
        """Raise ValueError if there is no column for 'no object'."""
        if width != num_classes + 1:
            raise ValueError(
                f'a softmax class head needs num_classes + 1 = {num_classes + 1} columns, the last '
                f"for 'no object', got {width}; state num_classes once, at the model"
            )

    def of_layers(self, logits: Tensor, query: Tensor, labels: Tensor, num_boxes: Tensor) -> Tensor:
        """(L,) of logits (L, Q, K), queries (L, M) having labels (L, M), the others none."""
        target = query.new_full(logits.shape[:2], logits.shape[-1] - 1).scatter(1, query, labels)
        weight = self._weights(logits)[target]
        loss = F.cross_entropy(logits.transpose(1, 2), target, reduction='none')
        total = weight.sum(1)
        if self.sync_weight:
            total = mean_over_ranks(total)
        total = total.clamp(min=torch.finfo(total.dtype).tiny)  # background_weight may be 0
        return self.loss_weight * (loss * weight).sum(1) / total

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """(n,) of logits (n, K) and labels (n,)."""
        return F.cross_entropy(pred, target, weight=self._weights(pred), reduction='none')

    def _weights(self, logits: Tensor) -> Tensor:
        if self.class_weight is not None:
            return self.class_weight.to(logits)
        weights = logits.new_ones(logits.shape[-1])
        weights[-1] = self.background_weight
        return weights


@MODELS.register_module()
class BoxL1Loss(SetLoss):
    """Sum of absolute differences of cxcywh boxes in 0..1."""

    def of_layers(self, pred: Tensor, target: Tensor, num_boxes: Tensor) -> Tensor:
        """(L,) of matched boxes, both (L, M, 4) cxcywh, over ``num_boxes``."""
        return self.loss_weight * self.elementwise(pred, target).sum((1, 2)) / num_boxes

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target).abs()


@MODELS.register_module()
class BoxGIoULoss(SetLoss):
    """1 - generalised IoU (Rezatofighi et al., CVPR 2019); ``eps`` as in ``elementwise_giou``."""

    def __init__(self, eps: float = 0.0, loss_weight: float = 1.0, reduction: str = 'mean') -> None:
        super().__init__(reduction, loss_weight)
        self.eps = eps

    def of_layers(self, pred: Tensor, target: Tensor, num_boxes: Tensor) -> Tensor:
        """(L,) of matched boxes, both (L, M, 4) cxcywh, over ``num_boxes``."""
        loss = self.elementwise(cxcywh_to_xyxy(pred), cxcywh_to_xyxy(target))
        return self.loss_weight * loss.sum(1) / num_boxes

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """(n,) of xyxy boxes (n, 4) in any common frame."""
        return 1 - elementwise_giou(pred, target, self.eps)

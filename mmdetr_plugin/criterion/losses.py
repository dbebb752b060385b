"""Losses of a set of matched queries."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from mmdet.models.losses.utils import weight_reduce_loss
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops.boxes import cxcywh_to_xyxy, elementwise_giou
from ..ops.focal import focal_of_negatives
from ..ops.precision import full_precision
from ..registry import MODELS
from .distributed import mean_over_ranks
from .matched import Matched


class Loss(nn.Module):
    """A term of the criterion: ``loss(matched) -> (l,)``, weighted, for the last l of the L layers.

    ``matched`` offers predictions and objects of all layers and images at once, see
    :class:`~mmdetr_plugin.criterion.matched.Matched`. A term that does not apply to a branch of queries
    returns (0,). Without objects in the batch, a loss must still depend on the predictions that it
    trains, as the sum over an empty set of pairs does.

    Attributes:
        reads: names in ``Prediction.extra`` of what the term reads. Further predictions of the head and
            proposals that lack it are left out; it is an error if the layers' own predictions lack it.
    """

    reads: tuple[str, ...] = ()

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        check_number(self, 'loss_weight', loss_weight)
        self.loss_weight = loss_weight

    @abstractmethod
    def forward(self, matched: Matched) -> Tensor:
        """The weighted loss of each layer."""


class ElementwiseLoss(Loss):
    """A term of the criterion that mmdet's heads can use too.

    Called with a :class:`Matched`, it is a term of our criterion. Called with predictions and targets,
    it takes the arguments of mmdet's losses and gives the same numbers.
    """

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.reduction = reduction

    @abstractmethod
    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """Loss of every row or entry of ``pred``, unweighted."""

    @abstractmethod
    def of_matched(self, matched: Matched) -> Tensor:
        """(L,), see :class:`Loss`."""

    def forward(
        self,
        pred: Matched | Tensor,
        target: Tensor | None = None,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """The weighted loss; ``weight`` is per row or per entry of ``pred``."""
        if isinstance(pred, Matched):
            return self.of_matched(pred)
        if target is None:
            raise ValueError(
                f'{type(self).__name__} needs a target for predictions, got None; pass it as the '
                'second argument'
            )
        loss = self.elementwise(full_precision(pred), target)
        if weight is not None and weight.dim() != loss.dim():
            # Weights (n, 4) of a loss (n,) are equal along a row; weights (n,) of a loss (n, K) expand.
            weight = weight.mean(-1) if weight.dim() > loss.dim() else weight.unsqueeze(-1)
        reduction = reduction_override or self.reduction
        return weight_reduce_loss(loss, weight, reduction, avg_factor) * self.loss_weight


@MODELS.register_module()
class FocalClassLoss(ElementwiseLoss):
    """Sigmoid focal loss (Lin et al., ICCV 2017), summed over queries and classes.

    Labels are columns; a column that no label names (SMCA's last) is trained as never present.

    Args:
        class_weight: (num_classes,), weights of the columns, for present and absent objects alike. In a
            config that `tools/train.py` reads it may also be a dictionary, class name -> weight.
        num_classes: number of classes, handed down by the model; ``class_weight`` must have it.
    """

    use_sigmoid = True

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        loss_weight: float = 1.0,
        reduction: str = 'mean',
        use_sigmoid: bool = True,
        class_weight: Tensor | Sequence[float] | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if not use_sigmoid:
            raise ValueError('FocalClassLoss needs use_sigmoid=True; use SoftmaxClassLoss instead')
        check_number(self, 'alpha', alpha)
        check_number(self, 'gamma', gamma)
        self.alpha, self.gamma = alpha, gamma
        self.class_weight = class_weights(self, class_weight, num_classes)

    def of_matched(self, matched: Matched) -> Tensor:
        """Raises ValueError if the class head is too narrow."""
        width = matched.logits.shape[-1]
        if width < matched.num_classes:
            raise ValueError(
                f'a sigmoid class head needs num_classes = {matched.num_classes} columns, got '
                f'{width}; state num_classes once, at the model'
            )
        flat = matched.logits.flatten(1)  # (L, Q * K)
        index = matched.query * width + matched.labels
        loss = focal_of_negatives(flat.scatter(1, index, -flat.gather(1, index)), self.gamma)
        if self.class_weight is not None:
            loss = (loss.unflatten(1, (-1, width)) * self._weights(flat, width)).flatten(1)
        positives = loss.gather(1, index)  # (L, M)
        if matched.trained is not None and matched.weights is not None:
            loss = loss.unflatten(1, (-1, width)).sum(-1) * matched.trained
            positives = positives * matched.weights
        total = (1 - self.alpha) * loss.sum(1) + (2 * self.alpha - 1) * positives.sum(1)
        return self.loss_weight * total / matched.num_boxes

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """(n, K) of logits (n, K) and labels (n,); a label >= K is background."""
        positive = target.unsqueeze(-1) == torch.arange(pred.shape[-1], device=pred.device)
        loss = focal_of_negatives(torch.where(positive, -pred, pred), self.gamma)
        loss = loss * torch.where(positive, self.alpha, 1 - self.alpha)
        return loss if self.class_weight is None else loss * self._weights(pred, pred.shape[-1])

    def _weights(self, logits: Tensor, width: int) -> Tensor:
        """(width,): those of the classes; further columns have 1."""
        assert self.class_weight is not None  # the callers check it
        weights = logits.new_ones(width)
        weights[: len(self.class_weight)] = self.class_weight.to(logits)
        return weights


@MODELS.register_module()
class SoftmaxClassLoss(ElementwiseLoss):
    """Cross-entropy with a down-weighted last column, 'no object' (DETR, section 3.1).

    Args:
        background_weight: of the last column; others have 1.
        sync_weight: average the sum of weights over processes, so that gradients do not depend on how
            images are distributed over them. False, as published: each process divides by its own.
        class_weight: (K,), weights of all columns, instead of 1, ..., 1, background_weight. In a
            config that `tools/train.py` reads it may also be a dictionary, class name -> weight.
        num_classes: number of classes, handed down by the model; K must be one more.
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
        num_classes: int | None = None,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if use_sigmoid:
            raise ValueError('SoftmaxClassLoss needs use_sigmoid=False; use FocalClassLoss instead')
        check_number(self, 'background_weight', background_weight)
        self.background_weight = background_weight
        self.sync_weight = sync_weight
        columns = None if num_classes is None else num_classes + 1
        self.class_weight = class_weights(self, class_weight, columns)

    def of_matched(self, matched: Matched) -> Tensor:
        """Raises ValueError if there is no column for 'no object'."""
        logits, query = matched.logits, matched.query
        width, num_classes = logits.shape[-1], matched.num_classes
        if width != num_classes + 1:
            raise ValueError(
                f'a softmax class head needs num_classes + 1 = {num_classes + 1} columns, the last '
                f"for 'no object', got {width}; state num_classes once, at the model"
            )
        target = query.new_full(logits.shape[:2], width - 1).scatter(1, query, matched.labels)
        weight = self._weights(logits)[target]
        if matched.trained is not None:
            weight = weight * matched.trained
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
class BoxL1Loss(ElementwiseLoss):
    """Sum of absolute differences of cxcywh boxes in 0..1."""

    def of_matched(self, matched: Matched) -> Tensor:
        loss = self.elementwise(matched.boxes, matched.target_boxes).sum(-1)
        return self.loss_weight * sum_of_pairs(loss, matched)

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target).abs()


@MODELS.register_module()
class BoxGIoULoss(ElementwiseLoss):
    """1 - generalised IoU (Rezatofighi et al., CVPR 2019); ``eps`` as in ``elementwise_giou``."""

    def __init__(self, eps: float = 0.0, loss_weight: float = 1.0, reduction: str = 'mean') -> None:
        super().__init__(reduction, loss_weight)
        self.eps = eps

    def of_matched(self, matched: Matched) -> Tensor:
        boxes = cxcywh_to_xyxy(matched.boxes), cxcywh_to_xyxy(matched.target_boxes)
        return self.loss_weight * sum_of_pairs(self.elementwise(*boxes), matched)

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """(n,) of xyxy boxes (n, 4) in any common frame."""
        return 1 - elementwise_giou(pred, target, self.eps)


def check_number(loss: nn.Module, name: str, value: object) -> None:
    """Raise ValueError unless an argument of a loss is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(
            f'{type(loss).__name__}: {name} must be a finite number, got {value!r}; a weight for each '
            'class is class_weight=[...] of a class loss'
        )


def class_weights(
    loss: nn.Module, weights: Tensor | Sequence[float] | None, number: int | None
) -> Tensor | None:
    """``weights`` as a tensor.

    Raises:
        ValueError: they are no finite numbers of at least 0, or their number is not ``number``.
    """
    if weights is None:
        return None
    try:
        tensor = torch.as_tensor(weights, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        tensor = torch.empty(0)
    fits = tensor.dim() == 1 and len(tensor) and number in (None, len(tensor))
    if not fits or not bool((tensor.isfinite() & (tensor >= 0)).all()):
        wanted = 'a number' if number is None else f'{number} numbers'
        last = ", the last for 'no object'" if isinstance(loss, SoftmaxClassLoss) else ''
        raise ValueError(
            f'{type(loss).__name__}: class_weight must be {wanted} >= 0, one for each column{last}, '
            f'got {weights!r}; state them in the order of the classes'
        )
    return tensor


def sum_of_pairs(loss: Tensor, matched: Matched) -> Tensor:
    """(L, M) -> (L,): summed over the pairs that are trained, divided by ``num_boxes``."""
    loss = loss if matched.weights is None else loss * matched.weights
    return loss.sum(1) / matched.num_boxes

"""Losses of boxes whose sides are distributions (D-FINE)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.distributions import between_bins, side_distances
from ..registry import MODELS
from .losses import Loss, sum_of_pairs
from .matched import Matched


@MODELS.register_module()
class FineGrainedLocalizationLoss(Loss):
    """FGL: cross-entropy of the two bins around the true distance of each side (Peng et al., "D-FINE",
    ICLR 2025, equation 4).

    The nearer bin counts more; a pair is weighted by the IoU of its box.
    """

    reads = ('corners', 'initial', 'bins')

    def forward(self, matched: Matched) -> Tensor:
        corners, initial, bins = map(matched.extra, self.reads)
        distances = side_distances(initial, matched.target_boxes.to(initial.dtype))
        left, share = between_bins(distances, bins[..., None, :].expand_as(corners))
        negative = -corners.log_softmax(-1)
        around = negative.gather(-1, torch.stack((left, left + 1), -1))  # (L, M, 4, 2)
        loss = around[..., 0] * (1 - share) + around[..., 1] * share
        return self.loss_weight * sum_of_pairs(loss.sum(-1) * matched.iou, matched)


@MODELS.register_module()
class DecoupledDistillationLoss(Loss):
    """DDF: all layers learn the distributions of the last one (D-FINE, equation 6).

    A matched side is weighted by the IoU of its box, any other by the last layer's largest score. The
    means of the two kinds are weighted by the roots of their numbers among the detecting queries. As
    in the authors' code, that is so for denoising queries too. The last layer's own loss is 0.

    Args:
        temperature: of both distributions.
    """

    reads = ('corners',)

    def __init__(self, loss_weight: float = 1.0, temperature: float = 5.0) -> None:
        super().__init__(loss_weight)
        self.temperature = temperature

    def forward(self, matched: Matched) -> Tensor:
        corners = matched.extra_of_all('corners')  # (L, Q, 4, bins)
        teacher = (corners[-1:].detach() / self.temperature).log_softmax(-1)
        student = (corners[:-1] / self.temperature).log_softmax(-1)
        divergence = (teacher.exp() * (teacher - student)).sum((-2, -1)) * self.temperature**2
        query = matched.query[:-1]
        scores = matched.logits[-1:].detach().sigmoid().amax(-1).expand(len(query), -1)
        loss = divergence * scores.scatter(1, query, matched.iou[:-1])
        trained = matched.trained
        if trained is not None:
            loss = loss * (trained if len(trained) == 1 else trained[:-1])
        positive = loss.gather(1, query).sum(1)
        number, total = query.shape[1], loss.shape[1]
        means = (
            positive / max(4 * number, 1),
            (loss.sum(1) - positive) / max(4 * (total - number), 1),
        )
        own = 0 * corners[-1:].sum((1, 2, 3))
        return self.loss_weight * torch.cat((self._combined(means, matched.detecting), own))

    @staticmethod
    def _combined(means: tuple[Tensor, Tensor], detecting: Matched) -> Tensor:
        """The mean of matched sides and that of the others, weighted."""
        number, total = detecting.query.shape[1], detecting.logits.shape[1]
        weights = number**0.5, (total - number) ** 0.5
        return (means[0] * weights[0] + means[1] * weights[1]) / max(sum(weights), 1.0)

"""The focal loss of Lin et al. (ICCV 2017), for a logit that should be low."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def focal_of_negatives(logits: Tensor, gamma: float) -> Tensor:
    """p^gamma * -log(1 - p) for p = sigmoid(logits), any shape, without the factor alpha.

    sigmoid(-x) is 1 - sigmoid(x): with the sign of a logit turned, this is the loss of a positive.
    """
    return logits.sigmoid().pow(gamma) * F.softplus(logits)

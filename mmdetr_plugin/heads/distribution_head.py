"""The head of D-FINE: boxes whose sides are distributions that the layers refine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..ops.distributions import bin_distances, expected_distances, move_sides
from ..ops.mlp import MLP
from ..ops.precision import in_weight_precision
from ..registry import MODELS
from ..structures import Prediction, State, UnitReference
from .set_head import SetHead


@MODELS.register_module()
class DistributionHead(SetHead):
    """Fine-grained distribution refinement (Peng et al., "D-FINE", ICLR 2025, section 4.1).

    A plain box head of the first layer predicts the initial boxes: a further prediction, ``initial``.
    Each layer then adds to the logits of distributions over how far the sides lie from those of the
    initial box; their means give its box. The box is the next reference.

    Losses may read in ``Prediction.extra`` of a layer: ``corners`` (B, N, 4, bins), the logits;
    ``initial`` (B, N, 4), the initial boxes, detached; ``bins`` (B, N, bins), the distances of the
    bins (:mod:`mmdetr_plugin.ops.distributions`).

    Args:
        num_bins: of a distribution, odd.
        reach: half the distance of the outermost bins, in sides of the initial box.
        scale: how much denser bins are near 0: 8 in D-FINE-X. Loading published weights sets reach and
            scale to those of the file.
        quality: add to the class logits what the sharpness of the distributions says of the box.
        activation: of the box heads: ``ReLU``, or ``SiLU`` (DEIM).
        kwargs: of :class:`SetHead`.
    """

    reach: Tensor
    scale: Tensor

    def __init__(
        self,
        num_classes: int,
        embed_dims: int = 256,
        num_layers: int = 6,
        num_bins: int = 33,
        reach: float = 0.5,
        scale: float = 4.0,
        quality: bool = True,
        activation: str = 'ReLU',
        eps: float | None = 1e-5,
        **kwargs: Any,
    ) -> None:
        options = {'shared': False, 'encoder': True, 'encoder_classes': True, **kwargs}
        super().__init__(num_classes, embed_dims, num_layers, eps=eps, **options)
        if self.shared or self.refine != 'none' or num_bins < 5 or num_bins % 2 == 0:
            raise ValueError(
                'DistributionHead has a pair of heads for each layer and its own refinement, and needs '
                f'an odd number of bins, at least 5; got shared={self.shared}, '
                f'refine={self.refine!r}, num_bins={num_bins}; leave out the first two'
            )
        self.num_bins = num_bins
        widths = [4 * num_bins] * num_layers + [4] * self.encoder
        self.box_branches = nn.ModuleList(
            MLP(embed_dims, embed_dims, width, 3, activation) for width in widths
        )
        self.initial = MLP(embed_dims, embed_dims, 4, 3, activation)
        for branch in (*self.box_branches, self.initial):
            for parameter in branch.layers[-1].parameters():
                nn.init.zeros_(parameter)
        self.quality = nn.ModuleList(
            LocationQuality(activation=activation) for _ in range(num_layers if quality else 0)
        )
        self.register_buffer('reach', torch.tensor([reach]))
        self.register_buffer('scale', torch.tensor([scale]))

    def forward(
        self, hidden: Tensor, state: State, layer: int, predict: bool = True
    ) -> tuple[tuple[Prediction, ...], State]:
        bins = bin_distances(self.num_bins, self.reach, self.scale)
        first = 'corners' not in state.carry
        if first:
            delta = in_weight_precision(self.initial, hidden)
            start = self._moved(state.ref, delta, self.eps).unit()
            initial = start.detach()
            corners = self._distributions(hidden, layer)
        else:
            initial = state.carry['initial']
            corners = self._distributions(hidden + state.carry['previous'], layer)
            corners = corners + state.carry['corners']
        boxes = move_sides(initial, expected_distances(corners, bins))
        state = replace(state, ref=UnitReference(boxes.detach()))
        state = state.keep(initial=initial, corners=corners, previous=hidden.detach())
        if not predict:
            return (), state
        logits = plain = self.classify(hidden, state, layer)
        if self.quality:
            logits = plain + self.quality[layer](corners)
        extra = {'corners': corners, 'initial': initial, 'bins': bins.expand(*boxes.shape[:2], -1)}
        own = Prediction(logits, boxes, hidden, extra)
        if first:
            return (Prediction(plain, start, hidden, name='initial'), own), state
        return (own,), state

    def _distributions(self, content: Tensor, layer: int) -> Tensor:
        """(B, N, 4, bins): what layer ``layer`` adds to the logits, for contents (B, N, C)."""
        made = in_weight_precision(self.box_branches[layer], content)
        return made.unflatten(-1, (4, self.num_bins))


class LocationQuality(nn.Module):
    """A correction of class logits by the sharpness of the four distributions (GFLv2; D-FINE's LQE).

    Args:
        top: the largest probabilities of every side, and their mean, are read.
        hidden_dims: of the perceptron, whose last layer starts at zero.
    """

    def __init__(self, top: int = 4, hidden_dims: int = 64, activation: str = 'ReLU') -> None:
        super().__init__()
        self.top = top
        self.mlp = MLP(4 * (top + 1), hidden_dims, 1, 2, activation)
        for parameter in self.mlp.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, corners: Tensor) -> Tensor:
        """(B, N, 4, bins) logits -> (B, N, 1)."""
        largest = corners.softmax(-1).topk(self.top, -1).values
        read = torch.cat((largest, largest.mean(-1, keepdim=True)), -1)
        return self.mlp(read.flatten(-2))

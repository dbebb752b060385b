"""Heads that predict once, after the last layer (TSP)."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from ..checkpoints.rows import CLASSES, Rows
from ..ops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from ..ops.linear import Linear
from ..ops.mlp import MLP
from ..ops.precision import in_weight_precision
from ..registry import MODELS
from ..structures import Prediction, RelativeReference, State
from .base import Head

STD = (0.1, 0.1, 0.2, 0.2)
"""What a head's output is multiplied by, as in Faster R-CNN."""
LARGEST = math.log(1000 / 16)
"""Largest logarithm by which a region grows."""


class FinalHead(Head):
    """A head that leaves all layers but the last without a prediction."""

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.class_branches = nn.ModuleList()

    def forward(
        self, hidden: Tensor, state: State, layer: int, predict: bool = True
    ) -> tuple[tuple[Prediction, ...], State]:
        if layer < self.num_layers - 1 or not predict:
            return (), state
        return (self.predict(hidden, state),), state

    @abstractmethod
    def predict(self, hidden: Tensor, state: State) -> Prediction:
        """The predictions for contents (B, N, C)."""

    def class_linear(self, embed_dims: int, width: int, bias: float = 0.0) -> None:
        """Add the linear class head with normal weights of standard deviation 0.01."""
        linear = Linear(embed_dims, width)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.constant_(linear.bias, bias)
        self.class_branches.append(linear)


@MODELS.register_module()
class DistanceHead(FinalHead):
    """Sigmoid classes, distances from a location to the sides of its box, and how central it is
    (TSP-FCOS; Tian et al., "FCOS", ICCV 2019).

    ``Prediction.extra`` has the distances in cells (left, top, right, bottom), the logit of being
    central, and the cell. Queries need a ``CellReference``.
    """

    def __init__(
        self, num_classes: int, embed_dims: int = 256, num_layers: int = 6, num_levels: int = 5
    ) -> None:
        super().__init__(num_layers)
        self.class_linear(embed_dims, num_classes, -math.log(99))
        self.distances = Linear(embed_dims, 4)
        self.central = Linear(embed_dims, 1)
        self.scales = nn.Parameter(torch.ones(num_levels))

    def predict(self, hidden: Tensor, state: State) -> Prediction:
        if state.ref is None or 'level' not in state.carry:
            raise ValueError(
                'DistanceHead needs queries that are cells of feature maps, got others; set '
                "queries=dict(type='FeaturesOfInterest', ...)"
            )
        distances = in_weight_precision(self.distances, hidden).relu()
        distances = distances * self.scales[state.carry['level']][..., None]
        boxes = cxcywh_to_xyxy(state.ref.moved(distances).values).clamp(0, 1)
        extra = {
            'distances': distances,
            'central': in_weight_precision(self.central, hidden)[..., 0],
            'cell': state.ref.values,
        }
        logits = self.class_branches[0](hidden)
        return Prediction(logits, xyxy_to_cxcywh(boxes), hidden, extra)

    def rows(self) -> dict[str, Rows]:
        return {'class_branches.': Rows(CLASSES)}


@MODELS.register_module()
class RegionHead(FinalHead):
    """Softmax classes with a last column for background, and a box for each class (TSP-RCNN).

    ``Prediction.extra`` has the ``deltas`` (B, N, K, 4) of all classes, in units of the region and of
    ``STD``, their ``class_boxes`` and the ``region``. Queries need a ``RelativeReference``.
    """

    def __init__(self, num_classes: int, embed_dims: int = 256, num_layers: int = 6) -> None:
        super().__init__(num_layers)
        self.class_linear(embed_dims, num_classes + 1)
        self.deltas = MLP(embed_dims, embed_dims, 4 * num_classes, 3)
        weight, bias = self.deltas.layers[-1].parameters()
        nn.init.normal_(weight, std=0.001)
        nn.init.zeros_(bias)

    def predict(self, hidden: Tensor, state: State) -> Prediction:
        if not isinstance(state.ref, RelativeReference):
            raise ValueError(
                'RegionHead needs boxes that are moved in units of their own size, got '
                f"{type(state.ref).__name__}; set queries=dict(type='RegionProposals', ...)"
            )
        deltas = in_weight_precision(self.deltas, hidden).unflatten(-1, (-1, 4))
        moves = torch.stack([d * s for d, s in zip(deltas.unbind(-1), STD)], -1)
        moves = torch.cat((moves[..., :2], moves[..., 2:].clamp(max=LARGEST)), -1)
        regions = RelativeReference(state.ref.values[..., None, :].expand_as(moves))
        boxes = regions.moved(moves).values
        clipped = xyxy_to_cxcywh(cxcywh_to_xyxy(boxes).clamp(0, 1))
        logits = self.class_branches[0](hidden)
        best = logits[..., :-1].argmax(-1)[..., None, None].expand(-1, -1, 1, 4)
        extra = {
            'deltas': deltas,
            'unclipped': boxes,
            'class_boxes': clipped,
            'region': state.ref.values,
        }
        kept = state.carry.get('kept')
        return Prediction(logits, clipped.gather(2, best)[:, :, 0], hidden, extra, kept=kept)

    def rows(self) -> dict[str, Rows]:
        return {'class_branches.': Rows(CLASSES, 1)}

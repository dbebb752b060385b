"""The predictions of the model."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .state import Branch


@dataclass(frozen=True)
class Prediction:
    """Predictions of one decoder layer for N queries, or of the encoder for N tokens.

    Attributes:
        logits: (B, N, K).
        boxes: (B, N, 4), cxcywh in 0..1 of the unpadded image.
        hidden: (B, N, C), the content that the head read.
        extra: further tensors (B, N, ...), by the names under which losses ask for them.
        name: '' for the layer's own prediction. The losses of any other begin with its name.
        kept: (B, N) bool, False for queries that are neither matched nor trained nor detections
            (see :class:`~mmdetr_plugin.heads.DistinctHead`); None = all are kept.
    """

    logits: Tensor
    boxes: Tensor
    hidden: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    name: str = ''
    kept: Tensor | None = None

    @property
    def detected_boxes(self) -> Tensor:
        """(B, N, 4), or (B, N, K, 4) where each class has a box of its own."""
        return self.extra.get('class_boxes', self.boxes)

    def ranked(self) -> Tensor:
        """The logits, those of queries that are not kept below all others."""
        if self.kept is None:
            return self.logits
        return self.logits.masked_fill(~self.kept[..., None], -math.inf)


@dataclass(frozen=True)
class Proposals:
    """Proposals of the encoder.

    Attributes:
        prediction: for every token, or for the selected ones; None where the source trains what it
            proposes by ``losses`` of its own.
        class_agnostic: whether class column 0 means "an object" and the other columns are unused.
        groups: number of equal parts that are matched separately.
        branch: the run of queries that the proposals are for; None = the detecting one.
        others: further proposals, for other runs of queries.
        losses: weighted losses that the source has computed, by name.
    """

    prediction: Prediction | None = None
    class_agnostic: bool = False
    groups: int = 1
    branch: Branch | None = None
    others: tuple[Proposals, ...] = ()
    losses: Mapping[str, Tensor] = field(default_factory=dict)


class Masks:
    """Masks of the queries, computed on demand for some or all of them."""

    @abstractmethod
    def select(self, index: Tensor) -> Tensor:
        """(M, h, w) logits of the flat query indices (M,), image * N + query."""

    @abstractmethod
    def dense(self) -> Tensor:
        """(B, N, h, w) logits."""


@dataclass(frozen=True)
class Outputs:
    """The result of a forward pass.

    Attributes:
        layers: the predictions of the decoder's layers for all queries, first layer first.
        others: further predictions of layers (see ``Prediction.name``).
        proposals: of the encoder, if it makes some.
        masks: of all queries, if there is a mask head.
        branches: see :class:`State`.
    """

    layers: tuple[Prediction, ...]
    others: tuple[Prediction, ...] = ()
    proposals: Proposals | None = None
    masks: Masks | None = None
    branches: tuple[Branch, ...] = ()

    def runs(self) -> tuple[Branch, ...]:
        """The branches, of which there is always one."""
        return self.branches or (Branch(self.layers[0].logits.shape[1]),)

    @property
    def detecting(self) -> slice:
        """The queries whose predictions are the result of the model: the first group of the branch
        with the prefix ''."""
        start = 0
        for branch in self.runs():
            if not branch.prefix:
                return slice(start, start + branch.size // branch.groups)
            start += branch.size
        raise ValueError("one branch of the queries must have the prefix '', got none; add one")

    def tensors(self) -> dict[str, Tensor]:
        """The predictions of the detecting queries as a dictionary.

        ``pred_logits (L, B, N, K)`` and ``pred_boxes (L, B, N, 4)``, cxcywh in 0..1, of all decoder
        layers; ``enc_logits (B, S, K)`` and ``enc_boxes (B, S, 4)`` where the encoder makes
        proposals; ``pred_masks (B, N, h, w)`` where there is a mask head.
        """
        rows = self.detecting
        tensors = {
            'pred_logits': torch.stack([p.logits[:, rows] for p in self.layers]),
            'pred_boxes': torch.stack([p.boxes[:, rows] for p in self.layers]),
        }
        made = None if self.proposals is None else self.proposals.prediction
        if made is not None and self.proposals is not None:
            number = made.logits.shape[1] // self.proposals.groups
            tensors['enc_logits'] = made.logits[:, :number]
            tensors['enc_boxes'] = made.boxes[:, :number]
        if self.masks is not None:
            tensors['pred_masks'] = self.masks.dense()[:, rows]
        return tensors

    @classmethod
    def of(cls, tensors: Outputs | Mapping[str, Tensor], class_agnostic: bool = True) -> Outputs:
        """Outputs of a dictionary as :meth:`tensors` gives it; ``class_agnostic`` of its proposals."""
        if isinstance(tensors, Outputs):
            return tensors
        pairs = zip(tensors['pred_logits'], tensors['pred_boxes'], strict=True)
        proposals = None
        if 'enc_logits' in tensors:
            made = Prediction(tensors['enc_logits'], tensors['enc_boxes'])
            proposals = Proposals(made, class_agnostic)
        masks = DenseMasks(tensors['pred_masks']) if 'pred_masks' in tensors else None
        return cls(tuple(Prediction(*pair) for pair in pairs), proposals=proposals, masks=masks)


@dataclass(frozen=True)
class DenseMasks(Masks):
    """Masks that are already computed: (B, N, h, w) logits."""

    logits: Tensor

    def select(self, index: Tensor) -> Tensor:
        return self.logits.flatten(0, 1).index_select(0, index)

    def dense(self) -> Tensor:
        return self.logits

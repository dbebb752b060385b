"""Class and box heads, and the update of the reference."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor, nn

from ..checkpoints.rows import ANY_CLASS, CLASSES, Rows
from ..ops.linear import Linear
from ..ops.mlp import MLP
from ..ops.precision import in_weight_precision
from ..registry import MODELS
from ..structures import LogitReference, Prediction, Reference, State
from .base import Head

REFINE = ('none', 'iterative', 'look_forward_twice')


@MODELS.register_module()
class SetHead(Head):
    """A linear class head and a three-layer box head, relative to the reference if there is one.

    Labels are 0..num_classes - 1. ``extra_column`` adds one more class column at the end: the
    no-object class of a softmax head (DETR), a class that is never positive in SMCA.

    Args:
        num_layers: number of decoder layers.
        shared: one pair of heads for all layers; False: a pair for each layer.
        encoder: a further pair, the last one, for the proposals of the encoder (two-stage); a number:
            that many further pairs, one for each group of queries.
        encoder_classes: whether that pair predicts classes (DINO); otherwise its column 0 separates
            objects from background (Deformable DETR).
        refine: how the reference is updated. ``none``: not at all. ``iterative``: the next reference
            is the predicted box of the layer, detached (Deformable DETR, section 4.2).
            ``look_forward_twice``: the next reference is a box predicted from the content before the
            norm, detached; the next layer's prediction adds to it before the detachment (DAB-DETR's
            code; named in DINO, section 3.5).
        eps: references are clamped to at least this distance from 0 and 1 before they are added;
            None = no clamp.
        prediction_eps: the same for predictions that look forward twice, where it differs from that of
            the next reference (mmdet's DINO); None = ``eps``.
        class_prior: initial probability of every class; None = torch's default.
        wh_bias: initial bias of width and height of the first box head whose last layer then starts
            at zero; None = torch's default for all.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dims: int = 256,
        num_layers: int = 6,
        shared: bool = True,
        encoder: bool | int = False,
        encoder_classes: bool = False,
        refine: str = 'none',
        extra_column: bool = False,
        eps: float | None = 1e-5,
        prediction_eps: float | None = None,
        class_prior: float | None = 0.01,
        wh_bias: float | None = 0.0,
    ) -> None:
        super().__init__()
        if refine not in REFINE:
            raise ValueError(f'head.refine must be one of {REFINE}, got {refine!r}; change it')
        if prediction_eps is not None and refine != 'look_forward_twice':
            raise ValueError(
                "head.prediction_eps needs refine='look_forward_twice', where predictions have a "
                f'reference of their own, got {refine!r}; leave it out'
            )
        self.shared, self.encoder, self.refine, self.eps = shared, encoder, refine, eps
        self.prediction_eps = eps if prediction_eps is None else prediction_eps
        self.encoder_classes = encoder_classes
        count = (1 if shared else num_layers) + encoder
        width = num_classes + extra_column
        self.num_layers = num_layers
        self.extra_column = extra_column
        classes = [Linear(embed_dims, width) for _ in range(count)]
        boxes = [MLP(embed_dims, embed_dims, 4, 3) for _ in range(count)]
        self.class_branches, self.box_branches = nn.ModuleList(classes), nn.ModuleList(boxes)
        if class_prior is not None:
            for linear in classes:
                nn.init.constant_(linear.bias, -math.log((1 - class_prior) / class_prior))
        if wh_bias is not None:
            for mlp in boxes:
                for parameter in mlp.layers[-1].parameters():
                    nn.init.zeros_(parameter)
            *_, bias = boxes[0].parameters()
            nn.init.constant_(bias[2:], wh_bias)

    def forward(
        self, hidden: Tensor, state: State, layer: int, predict: bool = True
    ) -> tuple[tuple[Prediction, ...], State]:
        def regress(content: Tensor) -> Tensor:
            return self.regress(content, state, layer)

        twice = self.refine == 'look_forward_twice'
        anchor = state.carry.get('anchor', state.ref) if twice else state.ref
        delta = regress(hidden) if predict or self.refine == 'iterative' else None
        box = None if delta is None else self._moved(anchor, delta, self.prediction_eps)
        if self.refine == 'iterative' and box is not None:
            state = replace(state, ref=box.detach())
        elif twice:
            if delta is None or state.content is not hidden:
                delta = regress(state.content)
            reference = self._moved(state.ref, delta, self.eps)
            state = replace(state, ref=reference.detach()).keep(anchor=reference)
        if not predict or box is None:
            return (), state
        return (Prediction(self.classify(hidden, state, layer), box.unit(), hidden),), state

    def classify(self, content: Tensor, state: State, layer: int) -> Tensor:
        """(B, N, K): class logits of contents (B, N, C) of decoder layer ``layer``."""
        return self.class_branches[0 if self.shared else layer](content)

    def regress(self, content: Tensor, state: State, layer: int) -> Tensor:
        """(B, N, 4): outputs of the box head for contents (B, N, C) of decoder layer ``layer``."""
        return in_weight_precision(self.box_branches[0 if self.shared else layer], content)

    @staticmethod
    def _moved(reference: Reference | None, delta: Tensor, eps: float | None) -> Reference:
        return LogitReference(delta) if reference is None else reference.moved(delta, eps)

    def propose_classes(self, tokens: Tensor, group: int = 0) -> Tensor:
        """See :meth:`Head.propose_classes`; by the pair made for the encoder.

        Raises:
            ValueError: there is none.
        """
        return self.class_branches[self._proposal_branch(group)](tokens)

    def propose_boxes(self, tokens: Tensor, anchors: Reference, group: int = 0) -> Reference:
        """Boxes of memory tokens (B, S, C); an anchor at infinity makes no proposal."""
        delta = in_weight_precision(self.box_branches[self._proposal_branch(group)], tokens)
        return anchors.moved(delta)

    def _proposal_branch(self, group: int) -> int:
        if group >= self.encoder:
            needed = 'True' if group == 0 else f'{group + 1} or more'
            raise ValueError(
                f'queries selected from the encoder need head.encoder={needed}, got {self.encoder}; '
                'set it'
            )
        return group - self.encoder

    def rows(self) -> dict[str, Rows]:
        rows = {'class_branches.': Rows(CLASSES, self.extra_column)}
        count = len(self.class_branches)
        for i in range(count - self.encoder, count):
            if not self.encoder_classes:  # trained on objects of any class, in column 0
                rows[f'class_branches.{i}.'] = Rows(ANY_CLASS, self.extra_column)
        return rows

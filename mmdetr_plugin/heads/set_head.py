"""Class and box heads and the update of the reference (slot S10)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints.rows import ANY_CLASS, CLASSES, Rows
from ..ops.mlp import MLP
from ..ops.coordinates import clamp_logit
from ..registry import MODELS
from ..structures import State

REFINE = ('none', 'iterative', 'look_forward_twice')


@dataclass(frozen=True)
class Prediction:
    """What one decoder layer predicts.

    Attributes:
        logits: (B, N, K).
        box_logit: (B, N, 4), (cx, cy, w, h) before the sigmoid.
    """

    logits: Tensor
    box_logit: Tensor


@MODELS.register_module()
class SetHead(nn.Module):
    """A linear class head and a three-layer box head, relative to the reference if there is one.

    Labels are 0..num_classes - 1. ``extra_column`` adds one more class column at the end: the
    no-object class of a softmax head (DETR), a class that is never positive in SMCA.

    Args:
        num_layers: number of decoder layers.
        shared: one pair of heads for all layers, or one for each.
        encoder: one more pair, the last, for the proposals of the encoder (two-stage).
        refine: how the reference goes on. ``none``: it stays. ``iterative``: the box of a layer,
            detached, is the next reference (Deformable DETR, section 4.2). ``look_forward_twice``:
            the box read from the un-normed content is, and predictions add the reference before it
            was detached (DAB-DETR's code; named in DINO, section 3.5).
        eps: references are kept this far from 0 and 1 before they are added; None = as they are.
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
        encoder: bool = False,
        refine: str = 'none',
        extra_column: bool = False,
        eps: float | None = 1e-5,
        class_prior: float | None = 0.01,
        wh_bias: float | None = 0.0,
    ) -> None:
        super().__init__()
        if refine not in REFINE:
            raise ValueError(f'head.refine must be one of {REFINE}, got {refine!r}; change it')
        self.shared, self.encoder, self.refine, self.eps = shared, encoder, refine, eps
        count = (1 if shared else num_layers) + encoder
        width = num_classes + extra_column
        self.num_layers = num_layers
        self.extra_column = extra_column
        self.class_branches = nn.ModuleList(nn.Linear(embed_dims, width) for _ in range(count))
        self.box_branches = nn.ModuleList(MLP(embed_dims, embed_dims, 4, 3) for _ in range(count))
        self._init(class_prior, wh_bias)

    def _init(self, class_prior: float | None, wh_bias: float | None) -> None:
        for i, (classes, boxes) in enumerate(
            zip(self.class_branches, self.box_branches, strict=True)
        ):
            if class_prior is not None:
                nn.init.constant_(classes.bias, -math.log((1 - class_prior) / class_prior))
            if wh_bias is not None:
                nn.init.zeros_(boxes.layers[-1].weight)
                nn.init.zeros_(boxes.layers[-1].bias)
                if i == 0:
                    nn.init.constant_(boxes.layers[-1].bias[2:], wh_bias)

    def box_logit(self, x: Tensor, ref: Tensor | None, branch: int) -> Tensor:
        """(B, N, C) and a logit-space reference (B, N, 2 | 4) -> (B, N, 4) in logit space."""
        delta = self.box_branches[branch].exact(x)
        if ref is None:
            return delta
        ref = ref if self.eps is None else clamp_logit(ref, self.eps)
        return delta + F.pad(ref, (0, 4 - ref.shape[-1]))

    def forward(
        self, hidden: Tensor, state: State, layer: int, predict: bool = True
    ) -> tuple[Prediction | None, State]:
        """Prediction of decoder layer ``layer`` and the state with its next reference.

        Args:
            hidden: (B, N, C), the content after the decoder's norm.
            predict: False spares what only the prediction needs.
        """
        branch = 0 if self.shared else layer
        anchor = state.carry.get('anchor', state.ref)
        box = None
        if predict or self.refine == 'iterative':
            box = self.box_logit(hidden, anchor, branch)
        if self.refine == 'iterative':
            state = replace(state, ref=box.detach())
        elif self.refine == 'look_forward_twice':
            ref = self.box_logit(state.content, state.ref, branch)
            state = replace(state, ref=ref.detach()).keep(anchor=ref)
        if not predict:
            return None, state
        return Prediction(self.class_branches[branch](hidden), box), state

    def propose_classes(self, tokens: Tensor) -> Tensor:
        """Class logits (B, S, K) of memory tokens (B, S, C), by the head made for the encoder.

        Raises:
            ValueError: there is none.
        """
        if not self.encoder:
            raise ValueError(
                'queries selected from the encoder need head.encoder=True, got False; set it'
            )
        return self.class_branches[-1](tokens)

    def propose_boxes(self, tokens: Tensor, anchors: Tensor) -> Tensor:
        """Boxes (B, S, 4) in logit space of memory tokens, by the head made for the encoder.

        Args:
            tokens: (B, S, C).
            anchors: (B, S, 4), boxes in logit space; inf where a token makes no proposal.
        """
        return self.box_branches[-1].exact(tokens) + anchors

    def rows(self) -> dict[str, Rows]:
        # The pair for proposals is trained on objects of any class, in column 0.
        rows = {'class_branches.': Rows(CLASSES, self.extra_column)}
        if self.encoder:
            last = f'class_branches.{len(self.class_branches) - 1}.'
            rows[last] = Rows(ANY_CLASS, self.extra_column)
        return rows

"""Queries selected from the encoder's proposals (two-stage Deformable DETR, section 4.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..checkpoints.rows import QUERIES, Rows
from ..heads.base import Head
from ..ops.boxes import cxcywh_to_xyxy
from ..ops.coordinates import sine_point_code
from ..ops.linear import Linear
from ..ops.nms import distinct
from ..registry import MODELS
from ..structures import (
    LogitReference,
    Memory,
    Prediction,
    Proposals,
    Reference,
    RelativeReference,
    State,
    Targets,
)
from .base import Made, QuerySource, expand

SCORES = ('objectness', 'best_class')
CONTENTS = ('proposal', 'learned', 'token', 'selected')


@MODELS.register_module()
class EncoderProposals(QuerySource):
    """The best ``num_queries`` memory tokens, their boxes as references.

    Args:
        base_size: width and height of the anchor of a token of level 0; they double at every level.
        score: how tokens are ranked. ``objectness``: by class column 0, which objects of every class
            train; ``best_class``: by the largest logit of all classes (DINO).
        content: where the content of a query comes from. ``proposal``: a projection of the code of
            its box; ``learned``: an embedding by its rank (mixed query selection: DINO, section 3.4);
            ``token``: a projection of the token, without a gradient to it (DDQ); ``selected``: what
            the proposal heads read of the token, without a gradient (RT-DETR).
        position_from_box: compute the query position by a projection of the code of the box; False:
            ``decoder.query_position`` does it.
        selected_only: train the selected proposals (DINO); else those of all tokens.
        group: number of the group of queries, for heads with several pairs for proposals.
        iou_threshold: of two proposals whose boxes overlap more than this, only the better one is
            selected (DDQ, section 3.2); None = overlaps do not matter. Where fewer than
            ``num_queries`` remain, the last queries have content 0, logits 0 and the middle of the
            image as reference.
        relative: anchors are boxes that the head moves in units of their own size (LW-DETR, section
            3.3). Tokens without a usable anchor then have a box of size 0, and are selected last.
        learned_shift: move the reference of each query by a learned amount, by its rank (LW-DETR).
        projected: whether the proposal heads read a projection of the tokens, with a norm after it;
            False: the tokens themselves (DEIMv2).
    """

    def __init__(
        self,
        num_queries: int,
        embed_dims: int = 256,
        base_size: float = 0.05,
        score: str = 'objectness',
        content: str = 'proposal',
        position_from_box: bool = True,
        selected_only: bool = False,
        group: int = 0,
        iou_threshold: float | None = None,
        relative: bool = False,
        learned_shift: bool = False,
        projected: bool = True,
    ) -> None:
        super().__init__()
        for name, value, known in (('score', score, SCORES), ('content', content, CONTENTS)):
            if value not in known:
                raise ValueError(f'queries.{name} must be one of {known}, got {value!r}; change it')
        if content == 'proposal' and not position_from_box:
            raise ValueError(
                "queries.position_from_box must be True with content='proposal': one projection makes "
                "both; set it, or content='learned'"
            )
        self.num_queries = num_queries
        self.embed_dims = embed_dims
        self.base_size = base_size
        self.score = score
        self.from_selected = content == 'selected'
        self.selected_only = selected_only
        self.group = group
        self.iou_threshold = iou_threshold
        self.relative = relative
        self.shift = nn.Embedding(num_queries, 4) if learned_shift else None
        if self.shift is not None:
            nn.init.zeros_(self.shift.weight)
        self.output: nn.Module = nn.Identity()
        self.output_norm: nn.Module = nn.Identity()
        if projected:
            linear = self.output = Linear(embed_dims, embed_dims)
            self.output_norm = nn.LayerNorm(embed_dims)
            nn.init.xavier_uniform_(linear.weight)
        self.content: nn.Embedding | nn.Linear | None = None
        if content == 'learned':
            self.content = nn.Embedding(num_queries, embed_dims)
        elif content == 'token':
            self.content = Linear(embed_dims, embed_dims)
        self.position_from_box = position_from_box
        if position_from_box:
            self.position = Linear(2 * embed_dims, 2 * embed_dims)
            self.position_norm = nn.LayerNorm(2 * embed_dims)
            nn.init.xavier_uniform_(self.position.weight)

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        return self.first(self.num_queries, memory, head)

    def first(self, number: int, memory: Memory, head: Head) -> Made:
        return self.select(number, memory, head, self.group, self.iou_threshold)

    def select(
        self, number: int, memory: Memory, head: Head, group: int, iou_threshold: float | None
    ) -> Made:
        """The best ``number`` tokens as the head's proposal branches number ``group`` see them."""
        anchors, valid = self.anchors(memory)
        usable = memory.tokens * valid
        # What ranks the tokens needs a gradient only if the losses read all of them.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.selected_only):
            tokens = self.output_norm(self.output(usable))
            logits = head.propose_classes(tokens, group)
        kept = None
        if iou_threshold is not None:
            with torch.no_grad():
                boxes = cxcywh_to_xyxy(head.propose_boxes(tokens, anchors, group).unit())
            kept = distinct(boxes, self._scores(logits).sigmoid(), iou_threshold)[..., None]
        ranked = logits if kept is None else logits.masked_fill(~kept, -math.inf)
        index = self.best(
            ranked.masked_fill(~valid, -math.inf) if self.relative else ranked, number
        )

        def pick(values: Tensor) -> Tensor:
            return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))

        def only_kept(values: Tensor) -> Tensor:
            return values if kept is None else values.masked_fill(~pick(kept), 0.0)

        def boxes_of(tokens: Tensor, anchors: Reference) -> Reference:
            return head.propose_boxes(tokens, anchors, group).map(only_kept)

        def propose() -> Proposals:
            if self.selected_only:
                chosen = self.output_norm(self.output(pick(usable)))
                classes = only_kept(head.propose_classes(chosen, group))
                boxes = boxes_of(chosen, anchors.map(pick))
                prediction = Prediction(classes, boxes.unit(), chosen)
            else:
                boxes = head.propose_boxes(tokens, anchors, group)
                prediction = Prediction(logits, boxes.unit(), tokens)
            return Proposals(prediction, self.score == 'objectness')

        with torch.no_grad():  # the references are detached
            ref = boxes_of(pick(tokens), anchors.map(pick))
        if self.from_selected:
            return self.place(ref, only_kept(pick(tokens)).detach(), memory), propose
        if isinstance(self.content, nn.Linear):
            content = only_kept(self.content(pick(memory.tokens.detach())))
            return self.place(ref, content, memory), propose
        return self._queries(ref, memory), propose

    def anchors(self, memory: Memory) -> tuple[Reference, Tensor]:
        """The anchor of each of the S tokens, and which are usable (B, S, 1).

        Unusable anchors are infinite as logits, and 0 if ``relative``.

        A token is usable if it is not padding and all coordinates of its anchor are in 0.01..0.99.
        """
        centres = memory.places()
        sizes = torch.cat(
            [
                centres.new_full((h * w, 2), self.base_size * 2.0**level)
                for level, (h, w) in enumerate(memory.shapes)
            ]
        )
        boxes = torch.cat((centres, sizes.expand_as(centres)), -1)
        valid = ((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdim=True)
        valid = valid & ~memory.mask[..., None]
        if self.relative:
            return RelativeReference(boxes.masked_fill(~valid, 0.0)), valid
        logits = (boxes / (1 - boxes)).log()
        return LogitReference(logits.masked_fill(~valid, float('inf'))), valid

    def _queries(self, ref: Reference, memory: Memory) -> State:
        number = ref.values.shape[1]
        if self.shift is not None:
            ref = ref.moved(self.shift.weight[:number].expand_as(ref.values))
        if self.content is None:
            pos, content = self._from_boxes(ref)
            return State(content, pos, ref)
        return self.place(ref, expand(self.content.weight[:number], memory), memory)

    def place(self, ref: Reference, content: Tensor, memory: Memory) -> State:
        return State(content, self._from_boxes(ref)[0] if self.position_from_box else None, ref)

    def _from_boxes(self, ref: Reference) -> tuple[Tensor, Tensor]:
        """Position and content (B, N, C) by a projection of the code of the boxes."""
        code = sine_point_code(ref.unit(), self.embed_dims // 2, order='xywh')
        pos, content = self.position_norm(self.position(code)).chunk(2, -1)
        return pos, content

    def best(self, logits: Tensor, number: int) -> Tensor:
        """(B, N): the ``number`` best tokens of class logits (B, S, K), or all if there are fewer."""
        scores = self._scores(logits)
        return scores.topk(min(number, scores.shape[1]), 1).indices

    def _scores(self, logits: Tensor) -> Tensor:
        return logits[..., 0] if self.score == 'objectness' else logits.amax(-1)

    def rows(self) -> dict[str, Rows]:
        parts = {'content.': self.content, 'shift.': self.shift}
        learned = [name for name, part in parts.items() if isinstance(part, nn.Embedding)]
        return dict.fromkeys(learned, Rows(QUERIES))

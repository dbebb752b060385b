"""Queries selected from the encoder's proposals (two-stage Deformable DETR, section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..heads.set_head import Prediction, SetHead
from ..ops.coordinates import sine_point_code
from ..registry import MODELS
from ..structures import Memory, State
from .base import Proposals, QuerySource


@MODELS.register_module()
class EncoderProposals(QuerySource):
    """The best ``num_queries`` memory tokens by the score of class column 0.

    Their boxes, detached, are the references; position and content are a projection of the sine code
    of those boxes.

    Args:
        base_size: width and height of the anchor of a token of level 0, doubled from level to level.
    """

    def __init__(self, num_queries: int, embed_dims: int = 256, base_size: float = 0.05) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.embed_dims = embed_dims
        self.base_size = base_size
        self.output = nn.Linear(embed_dims, embed_dims)
        self.output_norm = nn.LayerNorm(embed_dims)
        self.position = nn.Linear(2 * embed_dims, 2 * embed_dims)
        self.position_norm = nn.LayerNorm(2 * embed_dims)
        for linear in (self.output, self.position):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, memory: Memory, head: SetHead) -> tuple[State, Proposals]:
        anchors, valid = self.anchors(memory)
        tokens = self.output_norm(self.output(memory.tokens * valid))
        logits = head.propose_classes(tokens)
        index = self.best(logits)[..., None]
        with torch.no_grad():  # the references are detached
            best = (x.gather(1, index.expand(-1, -1, x.shape[-1])) for x in (tokens, anchors))
            ref = head.propose_boxes(*best)

        def every() -> Prediction:
            return Prediction(logits, head.propose_boxes(tokens, anchors))

        return self.select(ref), every

    def anchors(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Boxes (B, S, 4) in logit space, inf if unusable, and which tokens (B, S, 1) are usable.

        A token is usable if it is not padding and no coordinate of its anchor is near 0 or 1.
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
        logits = (boxes / (1 - boxes)).log()
        return logits.masked_fill(~valid, float('inf')), valid

    def select(self, ref: Tensor) -> State:
        """Queries of the boxes (B, N, 4) in logit space."""
        code = sine_point_code(ref.sigmoid(), self.embed_dims // 2, order='xywh')
        pos, content = self.position_norm(self.position(code)).chunk(2, -1)
        return State(content, pos, ref)

    def best(self, logits: Tensor) -> Tensor:
        """(B, N) tokens with the highest score of class column 0, of logits (B, S, K)."""
        scores = logits[..., 0]
        return scores.topk(min(self.num_queries, scores.shape[1]), 1).indices

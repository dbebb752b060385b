"""The head of DDQ: of queries with overlapping boxes only the best goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.rows import CLASSES, Rows
from ..ops.boxes import cxcywh_to_xyxy
from ..ops.nms import distinct
from ..ops.precision import in_weight_precision
from ..registry import MODELS
from ..structures import Prediction, State
from .set_head import SetHead


@MODELS.register_module()
class DistinctHead(SetHead):
    """Selects distinct queries after each decoder layer, by class-agnostic non-maximum suppression
    (Zhang et al., "Dense Distinct Query for End-to-End Object Detection", CVPR 2023, section 3.2).

    In the next layer, detecting queries attend to the selected ones, and the selected ones to all.
    Those that are not selected have no losses and are no detections, unless the first query is
    selected: then all have losses, as in the authors' code, which reads the selection from that
    query's row of the attention mask.

    Args:
        iou_threshold: of two boxes that overlap more than this, the one of the higher score stays.
        dense: prefix of a run of queries that has class and box heads of its own in every layer;
            None = there is no such run.
        kwargs: of :class:`SetHead`, with a pair of heads for each layer.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dims: int = 256,
        num_layers: int = 6,
        iou_threshold: float = 0.8,
        dense: str | None = 'dense_',
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, embed_dims, num_layers, **kwargs)
        if self.shared or self.extra_column:
            raise ValueError(
                'DistinctHead needs a pair of heads for each layer and a column for each class, got '
                f'shared={self.shared}, extra_column={self.extra_column}; set both to False'
            )
        self.iou_threshold = iou_threshold
        self.dense = dense
        if dense is not None:
            own = SetHead(num_classes, embed_dims, num_layers, **{**kwargs, 'encoder': False})
            self.dense_class_branches = own.class_branches
            self.dense_box_branches = own.box_branches

    def forward(
        self, hidden: Tensor, state: State, layer: int, predict: bool = True
    ) -> tuple[tuple[Prediction, ...], State]:
        kept = state.carry.get('kept')
        made, after = super().forward(hidden, state, layer, predict)
        made = tuple(replace(prediction, kept=kept) for prediction in made)
        if layer < self.num_layers - 1:
            after = self._select(after, layer)
        return made, after

    def classify(self, content: Tensor, state: State, layer: int) -> Tensor:
        branch = self.class_branches[layer]
        own = None if self.dense is None else self.dense_class_branches[layer]
        return self._by_run(branch, own, content, state)

    def regress(self, content: Tensor, state: State, layer: int) -> Tensor:
        branch = partial(in_weight_precision, self.box_branches[layer])
        own = None
        if self.dense is not None:
            own = partial(in_weight_precision, self.dense_box_branches[layer])
        return self._by_run(branch, own, content, state)

    def _by_run(
        self,
        branch: Callable[[Tensor], Tensor],
        own: Callable[[Tensor], Tensor] | None,
        content: Tensor,
        state: State,
    ) -> Tensor:
        """``branch`` of (B, N, C), but ``own`` of the dense run."""
        if all(run.prefix != self.dense for run in state.runs()):
            return branch(content)
        parts = content.split([run.size for run in state.runs()], 1)
        made = [
            (own if own is not None and run.prefix == self.dense else branch)(part)
            for run, part in zip(state.runs(), parts, strict=True)
        ]
        return torch.cat(made, 1)

    @torch.no_grad()
    def _select(self, state: State, layer: int) -> State:
        """The state of the next layer, with what is selected in ``self_mask`` and carried on."""
        rows = detecting_rows(state)
        content, ref = state.content[:, rows], state.ref
        assert ref is not None  # the base class has just made it
        scores = self.class_branches[layer](content).amax(-1).sigmoid()
        boxes = cxcywh_to_xyxy(ref.unit()[:, rows])
        kept = state.carry.get('kept')
        chosen = distinct(
            boxes, scores, self.iou_threshold, None if kept is None else kept[:, rows]
        )
        batch, number = state.content.shape[:2]
        everyone = chosen.new_ones(batch, number)
        kept = everyone.slice_scatter(chosen | chosen[:, :1], 1, rows.start, rows.stop)
        mask = everyone[:, None, None] if state.self_mask is None else state.self_mask
        mask = mask.expand(batch, -1, number, number).clone()
        mask[:, :, rows, rows] = (chosen[:, :, None] | chosen[:, None])[:, None]
        return replace(state, self_mask=mask).keep(kept=kept)

    def rows(self) -> dict[str, Rows]:
        return {**super().rows(), 'dense_class_branches.': Rows(CLASSES)}


def detecting_rows(state: State) -> slice:
    """Where the detecting queries stand.

    Raises:
        ValueError: they consist of groups.
    """
    start = 0
    for run in state.runs():
        if not run.prefix:
            break
        start += run.size
    if run.groups > 1 or state.groups > 1:
        raise ValueError(
            'DistinctHead needs detecting queries without groups, got GroupQueries; choose another '
            'head or other queries'
        )
    return slice(start, start + run.size)

"""Denoising training: additional queries that are noised objects (DN-DETR; DINO, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..build import build_slot
from ..checkpoints.rows import CLASSES, Rows
from ..heads.base import Head
from ..ops.coordinates import inverse_sigmoid, sine_point_code
from ..ops.mlp import MLP
from ..registry import MODELS
from ..structures import Branch, LogitReference, Memory, Reference, State, Targets
from ..structures.state import join
from .base import Made, QuerySource
from .noise import NoiseDraws, NoiseLayout, noised_centres, noised_corners

CROSSED = ('kept', 'turned')


@MODELS.register_module()
class DenoisingQueries(QuerySource):
    """Queries of any source and, when losses are computed, noised objects before them.

    A noised query has an embedding of its (perhaps replaced) label as content and a noised box as
    reference. It is trained to predict the object that it was made from, without a matching. Groups
    of noised queries do not attend to each other, and the queries of the source attend to none.

    Args:
        queries: config of the source.
        groups: number of groups, each of all objects; None: as many as ``num_denoising`` allows.
        num_denoising: noised objects of an image (positives only), at least one group.
        label_noise: probability that a label is replaced by one of all classes.
        box_noise: share of a box's size by which it is changed.
        contrastive: groups also have negatives with more noise, which are trained as background; the
            noise then moves the corners of boxes instead of centres and sides.
        crossed: what the box of a negative becomes whose corners have crossed: ``kept``, with a width
            or height below 0 (DINO), or ``turned``, which has the absolute value (D-FINE).
        unknown: a further row of the label embedding is added to the content of the source's queries,
            which have no label (DN-DETR).
        extra_row: the label embedding has a row more than there are classes, as ``unknown`` needs it;
            DINO has it and never reads it.
        padding_row: the further row of the label embedding, which is not trained, is the content of
            places without an object, and their reference is a box of size 0 in the corner (RT-DETR);
            False: their content is 0 and their reference the middle of the image.
        indicator: the last channel of every content says whether the query is noised (DN-DETR).
        position_from_box: make the position of noised queries from the code of their boxes by a
            perceptron, for sources whose queries have a position that is not made from a reference.
        train_padding: train places without an object as background (DINO).
        normalizer: what the losses are divided by, see :class:`~mmdetr_plugin.structures.Branch`:
            ``process`` in DN-DETR, ``detection`` in DINO.
        eps: references are clamped to at least this distance from 0 and 1.
        prefix: what the names of the losses begin with.
    """

    def __init__(
        self,
        queries: Mapping,
        num_classes: int,
        embed_dims: int = 256,
        groups: int | None = None,
        num_denoising: int = 100,
        label_noise: float = 0.2,
        box_noise: float = 0.4,
        contrastive: bool = False,
        crossed: str = 'kept',
        unknown: bool = False,
        extra_row: bool = True,
        padding_row: bool = False,
        indicator: bool = False,
        position_from_box: bool = False,
        train_padding: bool = False,
        normalizer: str = 'process',
        eps: float = 1e-3,
        prefix: str = 'dn_',
    ) -> None:
        super().__init__()
        if unknown + padding_row > extra_row:
            raise ValueError(
                'queries.unknown and queries.padding_row each need the further row of the label '
                f'embedding, got unknown={unknown}, padding_row={padding_row} and '
                f'extra_row={extra_row}; leave out extra_row or one of the others'
            )
        self.queries = build_slot(MODELS, queries, 'queries', contract=QuerySource)
        self.num_classes = num_classes
        self.groups = groups
        self.num_denoising = num_denoising
        self.label_noise, self.box_noise = label_noise, box_noise
        if crossed not in CROSSED:
            raise ValueError(
                f'queries.crossed must be one of {CROSSED}, got {crossed!r}; change it'
            )
        self.contrastive = contrastive
        self.crossed = crossed
        self.unknown, self.indicator = unknown, indicator
        self.train_padding = train_padding
        self.normalizer = normalizer
        self.eps = eps
        self.prefix = prefix
        self.extra_row = extra_row
        self.padding_row = padding_row
        padding = num_classes if padding_row else None
        width = embed_dims - indicator
        self.labels = nn.Embedding(num_classes + extra_row, width, padding_idx=padding)
        self.position = None
        if position_from_box:
            self.position = MLP(2 * embed_dims, embed_dims, embed_dims, 2)

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        state, proposals = self.queries(memory, head, targets)
        state = self._unlabelled(state)
        if targets is None:
            return state, proposals
        # DDP needs a gradient for the same parameters whatever the objects are.
        state = replace(state, content=state.content + 0 * self.labels.weight[0, 0])
        layout = self.layout(targets)
        noised = self._noised(layout, self.draw(layout), memory, state)
        return self._joined(noised, state, layout), proposals

    def first(self, number: int, memory: Memory, head: Head) -> Made:
        state, proposals = self.queries.first(number, memory, head)
        return self._unlabelled(state), proposals

    def draw(self, layout: NoiseLayout) -> NoiseDraws:
        """The random numbers of a batch. They are drawn in a method of their own, so that tests can
        replace them."""
        batch = len(layout.targets.counts)
        return NoiseDraws.random(batch, layout.size, self.num_classes, layout.number.device)

    def layout(self, targets: Targets) -> NoiseLayout:
        """Which object each noised query copies."""
        groups = self.groups
        if groups is None:
            groups = max(self.num_denoising // max(*targets.counts, 1), 1)
        return NoiseLayout(targets, groups, self.contrastive)

    def _unlabelled(self, state: State) -> State:
        """The source's queries, with a content that marks their label as unknown."""
        content = state.content
        width = self.labels.embedding_dim + self.indicator
        if content.shape[-1] < width:  # a source that leaves the indicator out
            content = F.pad(content, (0, width - content.shape[-1]))
        if self.unknown:
            content = content + F.pad(self.labels.weight[-1], (0, self.indicator))
        return replace(state, content=content)

    def _noised(self, layout: NoiseLayout, draws: NoiseDraws, memory: Memory, like: State) -> State:
        """The noised queries; for places without an object see ``padding_row``."""
        targets = layout.targets
        boxes = layout.copies(targets.padded_boxes).to(memory.tokens.dtype)
        if self.contrastive:
            boxes = noised_corners(boxes, draws, self.box_noise, layout.is_negative)
            if self.crossed == 'turned':
                boxes = boxes.abs()
        else:
            boxes = noised_centres(boxes, draws, self.box_noise)
        labels = layout.copies(targets.padded_labels.clamp(0, self.num_classes - 1))
        labels = torch.where(draws.label < self.label_noise, draws.new_label, labels)
        present = layout.copies(targets.is_present)[..., None]
        if self.padding_row:
            labels = labels.masked_fill(~present[..., 0], self.num_classes)
            boxes = boxes.masked_fill(~present, 0.0)
        content = F.pad(self.labels(labels), (0, self.indicator), value=1.0)
        logits = inverse_sigmoid(boxes, self.eps)
        if not self.padding_row:
            content, logits = (x.masked_fill(~present, 0.0) for x in (content, logits))
        ref = LogitReference(logits)
        state = self.queries.place(ref, content, memory)
        if self.position is not None:
            code = sine_point_code(ref.unit(), self.labels.embedding_dim + self.indicator >> 1)
            state = replace(state, pos=self.position(code))
        if like.pos is not None and state.pos is None:
            raise ValueError(
                'noised queries must have a position where the queries of the source have one, got '
                'none; set queries.position_from_box=True'
            )
        return replace(state, ref=self._as(like.ref, ref if state.ref is None else state.ref))

    @staticmethod
    def _as(like: Reference | None, ref: Reference) -> Reference | None:
        """``ref`` with as many coordinates as ``like``."""
        if like is None:
            return None
        return ref.points() if like.dims == 2 else ref

    def branch(self, layout: NoiseLayout) -> Branch:
        """How the noised queries are trained."""
        targets = layout.targets
        dropped = layout.copies(targets.is_present & ~targets.is_object)  # boxes without an area
        trained = ~dropped
        if not self.train_padding:
            trained = trained & layout.copies(targets.is_present)
        return Branch(
            layout.size,
            self.prefix,
            pairs=layout.pairs(),
            trained=trained,
            normalizer=self.normalizer,
            copies=layout.groups,
        )

    def _joined(self, noised: State, state: State, layout: NoiseLayout) -> State:
        branches = (self.branch(layout), *state.runs())
        mask = self._mask(layout.group, state)
        return replace(join(noised, state), self_mask=mask, branches=branches)

    @staticmethod
    def _mask(group: Tensor, state: State) -> Tensor:
        """(1, 1, N, N): a group attends to itself and to the detecting queries; these attend to no
        noised query."""
        number = state.content.shape[1]
        detecting = torch.zeros(number, dtype=torch.bool, device=group.device)
        start = 0
        for run in state.runs():
            if not run.prefix:
                detecting[start : start + run.size // run.groups] = True
            start += run.size
        inner = state.attended()
        if inner is None:
            inner = torch.ones(1, 1, number, number, dtype=torch.bool, device=group.device)
        upper = torch.cat((group[:, None] == group, detecting.expand(len(group), -1)), 1)
        lower = F.pad(inner.expand(*inner.shape[:2], number, number), (len(group), 0))
        upper = upper.expand(*lower.shape[:2], -1, -1)
        return torch.cat((upper, lower), 2)

    def rows(self) -> dict[str, Rows]:
        return {'labels.': Rows(CLASSES, self.extra_row)}

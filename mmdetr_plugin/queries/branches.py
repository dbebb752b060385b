"""Additional queries for training that share all parameters with the detecting ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import Placed, SlotError, check_type, place_of
from ..build import build_slot
from ..heads.base import Head
from ..registry import MODELS
from ..structures import Branch, Memory, Prediction, Proposals, Reference, State, Targets
from ..structures.state import join
from .base import Made, MakeProposals, QuerySource


def build_source(cfg: Mapping[str, Any], number: int, slot: str, **shared: Any) -> QuerySource:
    """The source ``cfg`` with ``number`` queries instead of its own number.

    Raises:
        ValueError: its queries are not separable.
    """
    place = place_of(slot, cfg)
    args = Placed({**cfg, 'num_queries': number}, place)
    source = build_slot(MODELS, args, slot, contract=QuerySource, **shared)
    if not source.separable:
        raise ValueError(
            f"each query of slot '{place}' must have its own row in the parameters, got "
            f'{type(source).__name__} with patterns; use one pattern, or separate=True'
        )
    return source


def stated_queries(cfg: Mapping[str, Any], slot: str) -> int:
    """The number of queries in the config of a source.

    Raises:
        SlotError: it is not stated.
    """
    place = place_of(slot, cfg)
    if 'num_queries' not in cfg:
        raise SlotError(f"slot '{place}' must state num_queries, got {sorted(cfg)}; add it")
    check_type(int, cfg['num_queries'], f'{place}.num_queries')
    return cfg['num_queries']


def check_alike(state: State, wrapper: str) -> None:
    """Check that the queries are one detecting run in which all see each other.

    Raises:
        ValueError: another wrapper made branches of them, or a mask.
    """
    if state.branches or state.groups > 1 or state.self_mask is not None:
        prefixes = [run.prefix for run in state.runs()]
        raise ValueError(
            f'{wrapper} needs queries that all detect and see each other, got branches with the '
            f'prefixes {prefixes} or a mask; in model.branches, list {wrapper} first'
        )


@MODELS.register_module()
class HybridQueries(QuerySource):
    """One-to-one queries and, when losses are computed, one-to-many queries (H-DETR, section 3.2).

    Both come from one source, the one-to-many queries last. The two kinds do not attend to each other.

    Args:
        queries: config of the source, whose ``num_queries`` is that of the one-to-one queries.
        num_many: number of one-to-many queries.
        repeats: how often each object is given to them.
        loss_weight: of their losses.
        prefix: what the names of their losses begin with.
    """

    def __init__(
        self,
        queries: Mapping,
        num_many: int = 1500,
        repeats: int = 6,
        loss_weight: float = 1.0,
        prefix: str = 'many_',
    ) -> None:
        super().__init__()
        self.num_one = stated_queries(queries, 'queries')
        self.num_many = num_many
        self.repeats = repeats
        self.loss_weight = loss_weight
        self.prefix = prefix
        self.queries = build_source(queries, self.num_one + num_many, 'queries')

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        if targets is None:
            return self.first(self.num_one, memory, head)
        state, proposals = self.queries(memory, head, targets)
        check_alike(state, type(self).__name__)
        number = state.content.shape[1]
        if number <= self.num_one:
            raise ValueError(
                f'one-to-many training needs more than {self.num_one} queries, got {number}: images '
                'must have as many tokens; use larger images or fewer queries'
            )
        many = torch.arange(number, device=state.content.device) >= self.num_one
        branches = (
            Branch(self.num_one),
            Branch(
                number - self.num_one,
                self.prefix,
                targets=targets.repeat(self.repeats),
                weight=self.loss_weight,
            ),
        )
        mask = (many[:, None] == many)[None, None]
        return replace(state, self_mask=mask, branches=branches), proposals

    def first(self, number: int, memory: Memory, head: Head) -> Made:
        return self.queries.first(min(number, self.num_one), memory, head)

    def place(self, ref: Reference, content: Tensor, memory: Memory) -> State:
        return self.queries.place(ref, content, memory)


@MODELS.register_module()
class GroupQueries(QuerySource):
    """Several groups of queries when losses are computed, the first of which detects (Group DETR).

    Every group is matched with all objects separately. Groups do not attend to each other.

    Args:
        queries: config of the source of one group.
        groups: number of groups.
        separate: give each group a source of its own. Selection from the encoder needs it: each group
            then selects by its own proposals (LW-DETR), and the head must have ``encoder=groups``.
            False: one source makes the queries of all groups.
    """

    def __init__(self, queries: Mapping, groups: int = 11, separate: bool = False) -> None:
        super().__init__()
        self.groups = groups
        self.num_queries = 0 if separate else stated_queries(queries, 'queries')
        slot = 'queries'
        if separate:
            sources = [
                build_slot(MODELS, queries, slot, contract=QuerySource, group=i)
                for i in range(groups)
            ]
        else:
            sources = [build_source(queries, groups * self.num_queries, slot)]
        self.queries = nn.ModuleList(sources)
        self.separate = separate

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        if targets is None:
            if self.separate:
                return self.queries[0](memory, head)
            return self.first(self.num_queries, memory, head)
        made = [source(memory, head, targets) for source in self.queries]
        state = made[0][0]
        check_alike(state, type(self).__name__)
        for other, _ in made[1:]:
            state = join(state, other)
        proposals = [propose for _, propose in made if propose is not None]
        branch = Branch(state.content.shape[1], groups=self.groups)
        state = replace(state, groups=self.groups, branches=(branch,))
        return state, _joined_proposals(proposals)

    def first(self, number: int, memory: Memory, head: Head) -> Made:
        return self._detecting().first(number, memory, head)

    def place(self, ref: Reference, content: Tensor, memory: Memory) -> State:
        return self._detecting().place(ref, content, memory)

    def _detecting(self) -> QuerySource:
        """The source of the detecting queries."""
        source = self.queries[0]
        assert isinstance(source, QuerySource)  # the constructor builds no others
        return source


def _joined_proposals(proposals: list[MakeProposals]) -> MakeProposals | None:
    """The proposals of all sources side by side, each matched by itself; None if there are none."""
    if len(proposals) < 2:
        return proposals[0] if proposals else None

    def propose() -> Proposals:
        made = [one() for one in proposals]
        logits, boxes = (
            torch.cat([getattr(one.prediction, name) for one in made], 1)
            for name in ('logits', 'boxes')
        )
        return Proposals(Prediction(logits, boxes), made[0].class_agnostic, len(made))

    return propose

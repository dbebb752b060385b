"""Dense queries: further proposals for training, each object given to several (DDQ)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from ..build import build_slot
from ..heads.base import Head
from ..registry import MODELS
from ..structures import Branch, Memory, Proposals, State, Targets
from ..structures.state import join
from .base import Made, MakeProposals, QuerySource
from .proposals import EncoderProposals


@MODELS.register_module()
class DenseQueries(QuerySource):
    """Selected queries and, when losses are computed, more of them, however much their boxes overlap
    (Zhang et al., "Dense Distinct Query for End-to-End Object Detection", CVPR 2023, section 3.3).

    The dense queries come from the same tokens as the others, but by proposal heads of their own (the
    head then has ``encoder=2``); the two runs do not see each other. The criterion has losses of
    their own for them, in ``criterion.branches``.

    Args:
        queries: config of ``EncoderProposals``.
        ratio: of the number of dense queries to that of the others.
        repeats: how often each object is given to the dense queries, as far as these suffice. Images
            without objects do not train them.
        prefix: what the names of their losses begin with.
    """

    def __init__(
        self, queries: Mapping, ratio: float = 1.5, repeats: int = 4, prefix: str = 'dense_'
    ) -> None:
        super().__init__()
        self.queries = build_slot(MODELS, queries, 'queries', contract=EncoderProposals)
        self.number = int(self.queries.num_queries * ratio)
        self.repeats = repeats
        self.prefix = prefix

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        state, propose = self.queries(memory, head, targets)
        if targets is None:
            return state, propose
        dense, propose_dense = self.queries.select(self.number, memory, head, 1, None)
        numbers = state.content.shape[1], dense.content.shape[1]
        branch = self._branch(numbers[1], targets, state)
        is_dense = torch.arange(sum(numbers), device=state.content.device) >= numbers[0]
        joined = replace(
            join(state, dense),
            self_mask=(is_dense[:, None] == is_dense)[None, None],
            branches=(Branch(numbers[0]), branch),
        )
        return joined, _both(propose, propose_dense, branch)

    def _branch(self, size: int, targets: Targets, state: State) -> Branch:
        times = [min(self.repeats, size // max(count, 1)) for count in targets.counts]
        device = state.content.device
        trained = [torch.full((size,), count > 0, device=device) for count in targets.counts]
        return Branch(
            size, self.prefix, targets=targets.repeat(times), trained=torch.stack(trained)
        )

    def first(self, number: int, memory: Memory, head: Head) -> Made:
        return self.queries.first(number, memory, head)

    def place(self, *args: Any) -> State:
        return self.queries.place(*args)


def _both(
    propose: MakeProposals | None, propose_dense: MakeProposals | None, branch: Branch
) -> Callable[[], Proposals]:
    assert propose is not None and propose_dense is not None  # EncoderProposals makes them

    def made() -> Proposals:
        return replace(propose(), others=(replace(propose_dense(), branch=branch),))

    return made

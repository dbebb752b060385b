"""What a source of object queries is (slots S4 and S5)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..heads.base import Head
from ..structures import Memory, Proposals, Reference, State, Targets

MakeProposals = Callable[[], Proposals]
"""Called for the losses only: a detection does not need the boxes of tokens that were not selected."""

Made = tuple[State, MakeProposals | None]
"""The queries, and what the encoder proposes where they were selected from it."""


class QuerySource(nn.Module):
    """``source(memory, head, targets) -> (state, proposals)``."""

    @property
    def separable(self) -> bool:
        """Whether each query has its own row in the parameters, so that the first queries are those
        that a source with fewer queries would make."""
        return True

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        """The queries of a batch.

        Args:
            memory: of the encoder.
            head: makes the proposals of two stages.
            targets: objects of the batch, when losses are computed; queries that only serve training
                are made from them. None: detecting queries only.
        """
        raise TypeError(f'{type(self).__name__} must define forward(memory, head, targets)')

    def first(self, number: int, memory: Memory, head: Head) -> Made:
        """The first ``number`` queries of a detection; override it where fewer cost less."""
        state, proposals = self(memory, head)
        return state.first(number), proposals

    def place(self, ref: Reference, content: Tensor, memory: Memory) -> State:
        """Queries of this source's kind with references and contents (B, N, C) from elsewhere."""
        return State(content, ref=ref)


def expand(x: Tensor, memory: Memory) -> Tensor:
    """(N, C), the same for every image -> (B, N, C)."""
    return x.expand(len(memory.tokens), -1, -1)

"""The contract of a source of object queries."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..heads.base import Head
from ..structures import Memory, Proposals, Reference, State, Targets

MakeProposals = Callable[[], Proposals]
"""Only losses call it: a detection does not need the boxes of tokens that were not selected."""

Made = tuple[State, MakeProposals | None]
"""The queries and, if they were selected from the encoder's proposals, a function that makes these."""


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
            memory: the output of the encoder.
            head: predicts the proposals of two-stage models.
            targets: objects of the batch, when losses are computed; sources make queries that only
                serve training from them. None: detecting queries only.
        """
        raise TypeError(f'{type(self).__name__} must define forward(memory, head, targets)')

    def first(self, number: int, memory: Memory, head: Head) -> Made:
        """The first ``number`` queries of a detection. Override it where fewer queries cost less."""
        state, proposals = self(memory, head)
        return state.first(number), proposals

    def place(self, ref: Reference, content: Tensor, memory: Memory) -> State:
        """Queries as this source makes them, but with the given references and contents (B, N, C)."""
        return State(content, ref=ref)


def expand(x: Tensor, memory: Memory) -> Tensor:
    """(N, C), the same for every image -> (B, N, C)."""
    return x.expand(memory.tokens.shape[0], -1, -1)

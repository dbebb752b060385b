"""What a source of object queries is (slots S4 and S5)."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ..heads.set_head import Prediction, SetHead
from ..structures import Memory, State

Proposals = Callable[[], Prediction]


class QuerySource(nn.Module):
    """``source(memory, head) -> (state, proposals)``.

    ``proposals`` gives the encoder's predictions for every memory token where the queries were selected
    from them (two-stage), else it is None. It is a function, called for the losses only: a detection
    needs the boxes of the selected tokens alone.
    """

    def forward(self, memory: Memory, head: SetHead) -> tuple[State, Proposals | None]:
        raise TypeError(f'{type(self).__name__} must define forward(memory, head)')

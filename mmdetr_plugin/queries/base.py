"""What a source of object queries is (slots S4 and S5)."""

from __future__ import annotations

from torch import nn

from ..heads.set_head import Prediction, SetHead
from ..structures import Memory, State


class QuerySource(nn.Module):
    """``source(memory, head) -> (state, proposals)``.

    ``proposals`` are the encoder's predictions for every memory token where the queries were selected
    from them (two-stage), else None.
    """

    def forward(self, memory: Memory, head: SetHead) -> tuple[State, Prediction | None]:
        raise TypeError(f'{type(self).__name__} must define forward(memory, head)')

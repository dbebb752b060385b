"""The contract of a head."""

from __future__ import annotations

from torch import Tensor, nn

from ..checkpoints.rows import Rows
from ..structures import Prediction, Reference, State


class Head(nn.Module):
    """Classes and boxes of the queries after each decoder layer, and their next reference."""

    def forward(
        self, hidden: Tensor, state: State, layer: int, predict: bool = True
    ) -> tuple[tuple[Prediction, ...], State]:
        """The predictions of decoder layer ``layer`` and the state that the next layer starts from.

        Args:
            hidden: (B, N, C), the content after the decoder's norm.
            state: after the layer, with the reference that the layer had. ``state.keep(name=tensor)``
                stores what the head itself needs in the next layer.
            predict: False: predict nothing, only compute the next reference.

        Returns:
            The layer's own prediction comes last. Further predictions come before it; each has a
            name, with which its losses begin. () if not ``predict``.
        """
        raise TypeError(f'{type(self).__name__} must define forward(hidden, state, layer, predict)')

    def propose_classes(self, tokens: Tensor, group: int = 0) -> Tensor:
        """Class logits (B, S, K) of memory tokens (B, S, C).

        Args:
            group: number of the group of queries that the proposals are for.

        Raises:
            ValueError: the head makes no proposals.
        """
        raise ValueError(
            'queries selected from the encoder need a head that makes proposals, got '
            f'{type(self).__name__}; choose SetHead with encoder=True, or define propose_classes and '
            'propose_boxes'
        )

    def propose_boxes(self, tokens: Tensor, anchors: Reference, group: int = 0) -> Reference:
        """Boxes of memory tokens (B, S, C), relative to their ``anchors``."""
        raise ValueError(f'{type(self).__name__} must define propose_boxes to make proposals')

    def rows(self) -> dict[str, Rows]:
        """Prefixes of the parameters that have a row per class. When a checkpoint with other classes is
        loaded, these rows are mapped by the names of the classes."""
        return {}

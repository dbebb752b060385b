"""What a head is (slot S10)."""

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
            state: after the layer, with the reference that the layer had. What the head itself needs
                in the next layer is kept by ``state.keep(name=tensor)``.
            predict: False: nothing is predicted, but the next reference is made.

        Returns:
            The layer's own prediction, last; before it any further ones, each with a name, whose
            losses begin with that name. () if not ``predict``.
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
        """Boxes of memory tokens (B, S, C), relative to ``anchors`` of them."""
        raise ValueError(f'{type(self).__name__} must define propose_boxes to make proposals')

    def rows(self) -> dict[str, Rows]:
        """Prefixes of parameters that have a row per class; these are mapped by the classes' names
        when a checkpoint with other classes is loaded."""
        return {}

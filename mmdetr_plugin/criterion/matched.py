"""The input of a loss: predictions and the objects that they are matched with."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from ..ops.boxes import cxcywh_to_xyxy, elementwise_iou
from ..ops.precision import full_precision
from .mask_targets import matched_masks
from .sources import Matches, Source


class Matched:
    """Predictions of L layers with M pairs of a query and an object in each.

    The Q queries are those of all images, image after image. A value is computed when a loss first
    reads it. All values are in single or double precision.

    Attributes:
        source, matches: the predictions and the pairs.
        num_boxes: scalar that losses are divided by.
        num_classes: number of classes.
        detecting: the same of the detecting queries' layers; None = it is theirs.
    """

    def __init__(
        self,
        source: Source,
        matches: Matches,
        num_boxes: Tensor,
        num_classes: int,
        detecting: Matched | None = None,
    ) -> None:
        self.detecting = self if detecting is None else detecting
        self.source = source
        self.matches = matches
        self.num_boxes = num_boxes
        self.num_classes = num_classes

    @property
    def query(self) -> Tensor:
        """(L, M): the queries of the pairs, numbered within the Q."""
        return self.matches.query

    @cached_property
    def logits(self) -> Tensor:
        """(L, Q, K)."""
        return full_precision(self.source.logits).flatten(1, 2)

    @cached_property
    def labels(self) -> Tensor:
        """(L, M): classes of the objects."""
        return select_rows(self.source.targets.padded_labels, self.matches.target)

    @cached_property
    def objects(self) -> Tensor:
        """(L, M): image * T + object, the same for all copies of an object."""
        slots = max(self.matches.num_slots, 1)
        image = self.matches.target.div(slots, rounding_mode='floor')
        return image * slots + select_rows(self.source.targets.originals, self.matches.target)

    @cached_property
    def boxes(self) -> Tensor:
        """(L, M, 4): the boxes that the queries predict."""
        return gather_queries(full_precision(self.source.boxes).flatten(1, 2), self.query)

    @cached_property
    def target_boxes(self) -> Tensor:
        """(L, M, 4): the boxes of the objects."""
        return select_rows(self.source.targets.padded_boxes, self.matches.target)

    @cached_property
    def iou(self) -> Tensor:
        """(L, M): IoU of the two, without a gradient."""
        boxes = self.boxes.detach()  # kept with their gradient for the losses of boxes
        return elementwise_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(self.target_boxes))

    def extra(self, name: str) -> Tensor:
        """(L, M, ...): rows of :meth:`extra_of_all` at the queries of the pairs."""
        return gather_queries(self.extra_of_all(name), self.query)

    def extra_of_all(self, name: str) -> Tensor:
        """(L, Q, ...): what else the head predicts, ``Prediction.extra[name]``.

        Raises:
            ValueError: the head predicts nothing of that name.
        """
        if name not in self.source.extra:
            raise ValueError(
                f'a loss reads Prediction.extra[{name!r}], but the head of {self.source.name} gives '
                f'{sorted(self.source.extra)}; choose a head that predicts it, or remove the loss'
            )
        return full_precision(self.source.extra[name]).flatten(1, 2)

    @cached_property
    def hidden(self) -> Tensor | None:
        """(L, M, C): the contents that the predictions were read from; None if only these are known."""
        if self.source.hidden is None:
            return None
        return gather_queries(full_precision(self.source.hidden).flatten(1, 2), self.query)

    def value(self, name: str) -> Tensor:
        """(L, M, ...): a further value of the objects, ``Targets.values[name]``."""
        return select_rows(self.source.targets.padded_values(name), self.matches.target)

    @cached_property
    def trained(self) -> Tensor | None:
        """(1 or L, Q), 1 for queries that have losses and 0 for others; None = all have losses."""
        trained, kept = self.source.branch.trained, self.source.kept
        trained = None if trained is None else trained.flatten()[None]
        if kept is not None:
            kept = kept.flatten(1)
            trained = kept if trained is None else kept & trained
        return None if trained is None else trained.to(self.logits.dtype)

    @cached_property
    def weights(self) -> Tensor | None:
        """(L, M), 1 for pairs that have losses and 0 for others; None = all have losses."""
        return None if self.trained is None else gather_queries(self.trained, self.query)

    @cached_property
    def masks(self) -> tuple[Tensor, Tensor] | None:
        """Mask logits (M, h, w) of the last layer's queries and masks (M, H, W), bool, of their
        objects on the canvas of the batch; None where the branch has no masks."""
        if self.source.masks is None:
            return None
        pred = full_precision(self.source.masks(self.query[-1]))
        return pred, matched_masks(self.source.targets, self.matches, pred.device)


def select_rows(padded: Tensor, index: Tensor) -> Tensor:
    """Rows of ``padded`` (B, T, ...) at the flat positions ``index`` (L, M): (L, M, ...)."""
    rows = padded.flatten(0, 1).index_select(0, index.flatten())
    return rows.unflatten(0, index.shape)


def gather_queries(values: Tensor, query: Tensor) -> Tensor:
    """Rows of ``values`` (1 or L, Q, ...) at ``query`` (L, M): (L, M, ...)."""
    index = query.view(*query.shape, *(1,) * (values.dim() - 2))
    values = values.expand(len(query), *values.shape[1:])
    return values.gather(1, index.expand(*query.shape, *values.shape[2:]))

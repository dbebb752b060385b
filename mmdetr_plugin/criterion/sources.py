"""Sets of predictions that are matched and trained together, and their pairs with objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..structures import Branch, Masks, Outputs, Prediction, Proposals, Targets


@dataclass(frozen=True)
class Source:
    """Predictions of L layers of one kind, and the objects that they are matched with.

    Groups of queries count as images: B is the number of images times the number of groups.

    Attributes:
        name: name of a layer in messages; {} stands for its number.
        prefixes: for each layer, the beginning of the names of its losses.
        logits: (L, B, N, K).
        boxes: (L, B, N, 4).
        targets: objects of the B images.
        branch: the queries, see :class:`~mmdetr_plugin.structures.Branch`.
        extra: further predictions, (L, B, N, ...) each.
        kept: (L, B, N) bool, see :class:`~mmdetr_plugin.structures.Prediction`; None = all are kept.
        hidden: (L, B, N, C), the contents that the predictions were read from, or None.
        masks: (M, h, w) mask logits of the last layer for flat indices (M,), image * N + query.
        further: whether these are not the layers' own predictions, but others that the head names, or
            proposals.
    """

    name: str
    prefixes: tuple[str, ...]
    logits: Tensor
    boxes: Tensor
    targets: Targets
    branch: Branch
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    kept: Tensor | None = None
    hidden: Tensor | None = None
    masks: Callable[[Tensor], Tensor] | None = None
    further: bool = False


@dataclass(frozen=True)
class Matches:
    """Pairs of one source, M in every layer, ordered by image and query."""

    query: Tensor  # (L, M) image * N + query
    target: Tensor  # (L, M) image * T + object
    counts: tuple[int, ...]  # pairs of each image
    objects: tuple[int, ...]  # objects of each image, without those whose box has no area
    num_queries: int  # N
    num_slots: int  # T
    on_host: tuple[np.ndarray, np.ndarray] | None = None  # queries and targets, if they were found

    @property
    def unmatched(self) -> int:
        """Number of objects for which no query was left."""
        return sum(self.objects) - sum(self.counts)

    def per_image(self, layer: int, groups: int = 1) -> list[tuple[Tensor, Tensor]]:
        """(queries, objects) of each image, sorted by query, as scipy numbers them.

        Args:
            groups: number of consecutive matched images that are the groups of one image; the queries
                of an image are numbered group after group.
        """
        pairs = zip(self.query[layer].split(self.counts), self.target[layer].split(self.counts))
        parts = [
            (query - image // groups * groups * self.num_queries, target - image * self.num_slots)
            for image, (query, target) in enumerate(pairs)
        ]
        if groups == 1:
            return parts
        return [
            (torch.cat([query for query, _ in image]), torch.cat([target for _, target in image]))
            for image in (parts[i : i + groups] for i in range(0, len(parts), groups))
        ]


def collect_sources(outputs: Outputs, targets: Targets, encoder: bool = True) -> list[Source]:
    """The decoder's layers branch by branch, the detecting branch first; then the encoder's proposals,
    if there are some and ``encoder`` is true.

    Raises:
        ValueError: two branches have the same prefix.
    """
    prefixes = [branch.prefix for branch in outputs.runs()]
    if len(set(prefixes)) < len(prefixes):
        raise ValueError(
            f'every branch of queries must have its own prefix, got {prefixes}: losses of one would '
            'replace those of another; set prefix of the wrappers in model.branches'
        )
    sources: list[Source] = []
    start = 0
    for branch in outputs.runs():
        rows = slice(start, start + branch.size)
        made = [_source(outputs.layers, branch, rows, targets, outputs)]
        made += [_source((other,), branch, rows, targets, None) for other in outputs.others]
        sources = [*sources, *made] if branch.prefix else [*made, *sources]
        start += branch.size
    if encoder and outputs.proposals is not None:
        first = outputs.proposals
        every = (each for each in (first, *first.others) if each.prediction is not None)
        sources += [_proposals(each, targets) for each in every]
    return sources


def _source(
    layers: tuple[Prediction, ...],
    branch: Branch,
    rows: slice,
    targets: Targets,
    outputs: Outputs | None,
) -> Source:
    """One branch of the predictions: of all layers, or of one further prediction with a name."""
    name = layers[-1].name
    prefixes = [f'd{layer}.' for layer in range(len(layers) - 1)] + [f'{name}.' if name else '']
    called = name or 'decoder layer {}'
    extra = set.intersection(*(set(p.extra) for p in layers))
    hidden = [p.hidden for p in layers if p.hidden is not None]
    masks = None
    if outputs is not None and outputs.masks is not None and not branch.prefix:
        masks = _masks_of_rows(outputs.masks, outputs.layers[0].logits.shape[1], rows)

    def cut(tensors: list[Tensor]) -> Tensor:
        return fold_groups(torch.stack([tensor[:, rows] for tensor in tensors]), branch.groups)

    return Source(
        name=f'{called} ({branch.prefix.rstrip("_")})' if branch.prefix else called,
        prefixes=tuple(prefix + branch.prefix for prefix in prefixes),
        logits=cut([p.logits for p in layers]),
        boxes=cut([p.boxes for p in layers]),
        targets=(branch.targets or targets).tile(branch.groups),
        branch=branch,
        extra={key: cut([p.extra[key] for p in layers]) for key in sorted(extra)},
        kept=cut(_kept(layers)) if any(p.kept is not None for p in layers) else None,
        hidden=cut(hidden) if len(hidden) == len(layers) else None,
        masks=masks,
        further=bool(name),
    )


def _kept(layers: Sequence[Prediction]) -> list[Tensor]:
    """(B, N) for each layer."""
    ones = torch.ones_like(layers[0].logits[..., 0], dtype=torch.bool)
    return [ones if p.kept is None else p.kept for p in layers]


def fold_groups(tensor: Tensor, groups: int) -> Tensor:
    """(L, B, groups * N, ...) -> (L, B * groups, N, ...)."""
    return tensor if groups == 1 else tensor.unflatten(2, (groups, -1)).flatten(1, 2)


def _masks_of_rows(masks: Masks, total: int, rows: slice) -> Callable[[Tensor], Tensor]:
    """Select masks by flat indices that count only the queries ``rows`` of the ``total`` queries."""
    number = rows.stop - rows.start
    if number == total:
        return masks.select
    return lambda index: masks.select(
        index.div(number, rounding_mode='floor') * total + index % number + rows.start
    )


def _proposals(proposals: Proposals, targets: Targets) -> Source:
    made, groups = proposals.prediction, proposals.groups
    assert made is not None  # the caller leaves out those without a prediction
    branch = proposals.branch or Branch(made.logits.shape[1], groups=groups)
    targets = branch.targets or targets
    targets = targets.class_agnostic() if proposals.class_agnostic else targets
    return Source(
        name='encoder proposals' + (f' ({branch.prefix.rstrip("_")})' if branch.prefix else ''),
        prefixes=(f'enc_{branch.prefix}',),
        logits=fold_groups(made.logits.unsqueeze(0), groups),
        boxes=fold_groups(made.boxes.unsqueeze(0), groups),
        targets=targets.tile(groups),
        branch=branch,
        further=True,
    )

"""One set of pairs for all layers: the union of what they were matched with (D-FINE's code)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .sources import Matches, Source


def is_united(source: Source) -> bool:
    """Whether it shares its pairs: predictions and proposals of the detecting queries do."""
    return not source.branch.prefix and source.branch.pairs is None


def unite(sources: Sequence[Source], matches: Sequence[Matches]) -> Matches:
    """The pairs of all layers of all ``sources``, of which each query keeps the most frequent one.

    An object may have many queries. Which of a query's equally frequent pairs is kept is left to
    ``torch.argsort``, called for one image as in the published code, so that the choice is the same.

    Returns:
        Pairs of one layer, ordered by image and query.

    Raises:
        ValueError: the sources do not have the same queries.
    """
    sizes = [tuple(source.logits.shape[1:3]) for source in sources]
    if len(set(sizes)) > 1:
        raise ValueError(
            'the union of matches needs proposals of the selected queries alone, got (images, queries) '
            f'{sizes}; set queries.selected_only=True, or criterion.union=()'
        )
    number = sizes[0][1]
    slots = matches[0].num_slots
    parts = [_of_image(pairs) for pairs in zip(*(_codes(match) for match in matches), strict=True)]
    pairs = torch.from_numpy(np.concatenate(parts, 1)).to(sources[0].logits.device)
    counts = tuple(part.shape[1] for part in parts)
    return Matches(pairs[:1], pairs[1:], counts, counts, number, slots)


def _codes(match: Matches) -> list[np.ndarray]:
    """For each image, its pairs of all layers: (2, n), queries and targets."""
    assert match.on_host is not None  # an assigner has found them
    ends = np.cumsum(match.counts)[:-1]
    both = np.stack(match.on_host)  # (2, L, M)
    return [part.reshape(2, -1) for part in np.split(both, ends, 2)]


def _of_image(pairs: Sequence[np.ndarray]) -> np.ndarray:
    """(2, n): each query with its most frequent target."""
    found, times = np.unique(np.concatenate(pairs, 1), axis=1, return_counts=True)
    order = torch.argsort(torch.from_numpy(times), descending=True).numpy()
    query, first = np.unique(found[0, order], return_index=True)
    return np.stack((query, found[1, order][first]))


def repeated(pairs: Matches, layers: int) -> Matches:
    """The same pairs of a single layer for each of ``layers``."""
    query, target = (x.expand(layers, -1) for x in (pairs.query, pairs.target))
    return Matches(query, target, pairs.counts, pairs.objects, pairs.num_queries, pairs.num_slots)

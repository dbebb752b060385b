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

    Of pairs that are equally frequent, that of the first object is kept. An object may have many
    queries.

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
    images, number = sizes[0]
    found = [match.on_host for match in matches if match.on_host is not None]
    query = np.concatenate([queries.ravel() for queries, _ in found])
    target = np.concatenate([targets.ravel() for _, targets in found])
    slots = max(images * matches[0].num_slots, 1)
    codes, times = np.unique(query * slots + target, return_counts=True)
    codes = codes[np.argsort(-times, kind='stable')]
    kept, first = np.unique(codes // slots, return_index=True)
    pairs = torch.from_numpy(np.stack((kept, codes[first] % slots)))
    pairs = pairs.to(sources[0].logits.device, non_blocking=True)
    counts = tuple(np.bincount(kept // max(number, 1), minlength=images).tolist())
    return Matches(pairs[:1], pairs[1:], counts, counts, number, matches[0].num_slots)


def repeated(pairs: Matches, layers: int) -> Matches:
    """The same pairs of a single layer for each of ``layers``."""
    query, target = (x.expand(layers, -1) for x in (pairs.query, pairs.target))
    return Matches(query, target, pairs.counts, pairs.objects, pairs.num_queries, pairs.num_slots)

"""Bipartite matching on the host, for all layers and images of a step."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True)
class Assignment:
    """Pairs of L layers over a batch of B images, M pairs a layer, ordered by image, then by query.

    M is the same in every layer: each image has min(queries, objects) pairs.
    """

    query: np.ndarray  # (L, M) image * N + query
    target: np.ndarray  # (L, M) image * T + object
    counts: tuple[int, ...]  # pairs of each image
    nonfinite: tuple[tuple[int, int], ...]  # (layer, image) whose costs held NaN or infinity


def solve(costs: np.ndarray, usable: np.ndarray) -> Assignment:
    """Match queries and objects at the least total cost, with scipy's ``linear_sum_assignment``.

    A query whose cost is not finite is given an object only if the finite ones do not suffice.

    Args:
        costs: (L, B, N, T), of any float type.
        usable: (B, T), False for padding and for objects to be ignored.
    """
    num_layers, _, num_queries, num_targets = costs.shape
    objects = [np.flatnonzero(row) for row in usable]
    counts = tuple(min(num_queries, len(columns)) for columns in objects)
    query = np.empty((num_layers, sum(counts)), np.int64)
    target = np.empty_like(query)
    all_finite = bool(np.isfinite(costs).all())
    nonfinite = []
    for layer in range(num_layers):
        start = 0
        for image, (columns, count) in enumerate(zip(objects, counts, strict=True)):
            cost = costs[layer, image]
            if len(columns) < num_targets:
                cost = cost[:, columns]
            if not all_finite and not np.isfinite(cost).all():
                nonfinite.append((layer, image))
                cost = replace_nonfinite(cost)
            row, column = linear_sum_assignment(cost)
            query[layer, start : start + count] = image * num_queries + row
            target[layer, start : start + count] = image * num_targets + columns[column]
            start += count
    return Assignment(query, target, counts, tuple(nonfinite))


def replace_nonfinite(cost: np.ndarray) -> np.ndarray:
    """Put the largest finite entry + 1 for NaN and infinity; without a finite entry all are 0."""
    finite = np.isfinite(cost)
    worst = cost[finite].astype(np.float64).max() if finite.any() else -1.0
    return np.where(finite, cost.astype(np.float64), worst + 1)

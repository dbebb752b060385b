"""Bipartite matching on the CPU, for all layers and images of a training step."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True)
class Assignment:
    """The matched pairs of L layers and B images, M pairs per layer, ordered by image and query.

    M is the same in every layer because each image has min(queries, objects) pairs.
    """

    query: np.ndarray  # (L, M) image * N + query
    target: np.ndarray  # (L, M) image * T + object
    counts: tuple[int, ...]  # number of pairs of each image
    nonfinite: tuple[tuple[int, int], ...]  # (layer, image) where a cost was NaN or infinite


def solve(costs: np.ndarray, usable: np.ndarray) -> Assignment:
    """Match queries and objects at the least total cost, with scipy's ``linear_sum_assignment``.

    A query with a cost that is not finite gets an object only if there are too few other queries.

    Args:
        costs: (L, B, N, T) for N queries and T objects, any float type.
        usable: (B, T) bool, False for padding and for objects that are ignored.
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
    """Replace NaN and infinity by the largest finite entry + 1, or by 0 if no entry is finite."""
    finite = np.isfinite(cost)
    worst = cost[finite].astype(np.float64).max() if finite.any() else -1.0
    return np.where(finite, cost.astype(np.float64), worst + 1)

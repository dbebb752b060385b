"""A picture of how large and how many the boxes of a data set are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..datasets.faults import Contents

COCO_BORDERS = (32, 96)
"""Sides in pixels between what COCO's evaluation calls small, medium and large."""


def draw_sizes(contents: Contents, num_queries: int | None, title: str, file: Path) -> Path | None:
    """Write a PNG of widths against heights, box sizes and objects an image.

    Returns:
        The file; None without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    width, height = np.array(contents.sizes).T
    figure = Figure(figsize=(13, 4), layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(f'{title}: {len(width)} boxes in {len(contents.counts)} images')
    both, side, many = figure.subplots(1, 3)

    least, largest = np.log2([min(width.min(), height.min()), max(width.max(), height.max())])
    powers = 2.0 ** np.arange(np.floor(least), np.ceil(largest + 1e-6) + 1)
    edges = np.geomspace(powers[0], powers[-1], 60)
    cells = both.hist2d(width, height, bins=(edges, edges), cmin=1)
    figure.colorbar(cells[3], ax=both, label='boxes')
    _mark(both.set_xscale, both.set_xticks, powers)
    _mark(both.set_yscale, both.set_yticks, powers)
    both.set(xlabel='width, pixels', ylabel='height, pixels')

    side.hist(np.sqrt(width * height), bins=edges)
    for border in COCO_BORDERS:
        side.axvline(border, color='grey', linestyle='--')
    _mark(side.set_xscale, side.set_xticks, powers)
    side.set(xlim=powers[[0, -1]], xlabel='square root of width x height, pixels', ylabel='boxes')
    side.set_title("dashed: COCO's small | medium | large", fontsize='medium')

    most = max(contents.counts)
    step = max(1, -(-most // 60))
    many.hist(contents.counts, bins=np.arange(-0.5, most + step + 0.5, step))
    many.set(xlabel='objects an image', ylabel='images')
    if num_queries and num_queries <= 2 * most:
        many.axvline(num_queries, color='red')
        many.set_title(f'red: the {num_queries} queries', fontsize='medium')
    elif num_queries:
        many.set_title(f'{num_queries} queries', fontsize='medium')
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)
    return file


def _mark(set_scale: Callable, set_ticks: Callable, powers: np.ndarray) -> None:
    """A logarithmic axis with the powers of two written out."""
    set_scale('log', base=2)
    set_ticks(powers, [f'{power:g}' for power in powers])

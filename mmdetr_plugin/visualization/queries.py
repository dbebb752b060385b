"""A figure of where each query puts its boxes over many images."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SMALL = 0.2
"""Square root of the area, as a share of the image, below which a box is small."""
KINDS = {'small': 'tab:green', 'large and wide': 'tab:red', 'large and high': 'tab:blue'}


def slots_figure(boxes: np.ndarray, queries: int = 20) -> Figure:
    """The centres of the boxes of the first queries, a panel for each (DETR, figure 7).

    Args:
        boxes: (images, N, 4), cxcywh in 0..1.
        queries: number of panels.

    Raises:
        ValueError: there are no images.
    """
    if not len(boxes):
        raise ValueError('the figure needs at least one image, got none; name more images')
    number = min(queries, boxes.shape[1])
    columns = min(5, number)
    rows = -(-number // columns)
    figure = Figure(figsize=(2.0 * columns + 0.4, 2.1 * rows + 1.2), layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(f'Centres of the boxes of each query in {len(boxes)} images')
    panels = figure.subplots(rows, columns, squeeze=False)
    for query, axes in enumerate(panels.flat):
        if query >= number:
            axes.axis('off')
            continue
        x, y, width, height = boxes[:, query].T
        small = np.sqrt(width * height) < SMALL
        chosen = (small, ~small & (width >= height), ~small & (width < height))
        for (name, colour), mask in zip(KINDS.items(), chosen):
            axes.scatter(x[mask], y[mask], s=4, color=colour, label=name)
        axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], aspect='equal')
        axes.set_title(f'query {query}', fontsize='small')
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=3, markerscale=3)
    return figure

"""What all charts have in common."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WIDTH, HEIGHT = 5.4, 3.9
"""Inches; small enough that the text is still legible on a phone."""


def chart(
    title: str, xlabel: str, ylabel: str, width: float = WIDTH, height: float = HEIGHT
) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, drawn without a display."""
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    return figure, axes

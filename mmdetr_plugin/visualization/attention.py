"""Figures of attention: of objects in the decoder, of points in the encoder, head by head."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..attention.records import (
    Attention,
    AxisAttention,
    DenseAttention,
    SampledAttention,
    resized_map,
    to_map,
)
from ..structures.memory import Shapes

if TYPE_CHECKING:
    from ..inference.scene import Scene

PANEL = 3.4
"""Inches of the longer side of a picture."""
SHARE: dict[str, Any] = {'cmap': 'inferno', 'vmin': 0.0, 'vmax': 1.0}
"""Colours of weights, as shares of the largest weight in a panel."""
TINY = 1e-12
LETTERS = 11
"""Letters of a panel's title in an inch."""


def decoder_figure(scene: Scene, layer: int = -1) -> Figure:
    """Where the query of each object looks in a decoder layer (DETR, figure 6; Deformable DETR,
    figure 6). Heads are averaged; sampled places are dots, coloured by their weight.

    Raises:
        ValueError: no object was found, or the layer does not read the image.
    """
    if not scene.queries:
        raise ValueError('the image must have at least one detection, got none; take another image')
    record = scene.records.decoder(layer)
    figure, panels = make_figure(scene, 1, len(scene.queries))
    figure.suptitle(f'Decoder attention per object, {_which(layer)}')
    drawn = None
    for i, (axes, query) in enumerate(zip(panels.flat, scene.queries)):
        drawn = draw_attention(axes, scene, record, query)
        draw_box(axes, scene.boxes[i])
        _title(axes, f'{scene.names[i]} {scene.scores[i]:.2f}')
    _add_bar(figure, panels, drawn)
    return figure


def encoder_figure(
    scene: Scene, points: Sequence[tuple[float, float]] = (), layer: int = -1
) -> Figure:
    """Where points of the image look in an encoder layer (DETR, figure 3).

    Args:
        points: (x, y) in pixels of the image; none = the centres of the objects.

    Raises:
        ValueError: there is no such layer, no point, or a point lies outside the image.
    """
    centres = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in scene.boxes.tolist()]
    points = list(points) or [_inside(scene, *centre) for centre in centres]
    if not points:
        raise ValueError('the figure needs points, got neither points nor objects; name some')
    record = scene.records.encoder(layer)
    figure, panels = make_figure(scene, 1, len(points))
    figure.suptitle(f'Encoder self-attention at points, {_which(layer)}')
    drawn = None
    for axes, (x, y) in zip(panels.flat, points):
        drawn = draw_attention(axes, scene, record, token_at(scene, record.shapes, x, y))
        axes.plot(x, y, marker='o', markersize=9, markerfacecolor='none', color='cyan', mew=2)
        _title(axes, f'point ({x:.0f}, {y:.0f})')
    _add_bar(figure, panels, drawn)
    return figure


def heads_figure(scene: Scene, number: int = 0, layer: int = -1) -> Figure:
    """Where each head of an object's query looks, and where it would by content, by position, by a
    Gaussian, by rows or by columns alone, where the op has these (Conditional DETR, figures 1 and 4;
    SMCA, figure 1; Anchor DETR). Crosses are the salient points of SAM-DETR.

    Args:
        number: of the object.

    Raises:
        ValueError: there is no such object, or the layer does not read the image.
    """
    if not 0 <= number < len(scene.queries):
        raise ValueError(
            f'the object must be one of the {len(scene.queries)} that were found, got {number}; '
            'change it'
        )
    record, query = scene.records.decoder(layer), scene.queries[number]
    rows: dict[str, Tensor | None] = {**_parts(record), 'combined': None}
    heads = record.values.shape[1]
    figure, panels = make_figure(scene, len(rows), heads, panel=1.9)
    title = f'{scene.names[number]} {scene.scores[number]:.2f}'
    figure.suptitle(f'Decoder attention of each head, {title}, {_which(layer)}')
    for row, (line, (name, weights)) in enumerate(zip(panels, rows.items())):
        for head, axes in enumerate(line):
            if weights is None:
                draw_attention(axes, scene, record, query, head)
            else:
                draw_map(axes, scene, joined_map(weights[0, head, query], record.shapes))
            draw_box(axes, scene.boxes[number], width=1.0)
            if row == 0:
                axes.set_title(f'head {head + 1}', fontsize='small')
        line[0].set_ylabel(name)
    return figure


def make_figure(
    scene: Scene, rows: int, columns: int, panel: float = PANEL
) -> tuple[Figure, np.ndarray]:
    """A figure with a panel (rows, columns) of the image's shape for each picture."""
    height, width = scene.image.shape[:2]
    longer = max(height, width)
    size = (columns * (panel * width / longer + 0.2) + 1.2, rows * panel * height / longer + 1.0)
    figure = Figure(figsize=(max(size[0], 5.5), size[1]), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.imshow(scene.image, alpha=0.75)
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    return figure, panels


def draw_attention(
    axes: Axes, scene: Scene, record: Attention, query: int, head: int | None = None
) -> Any:
    """Draw the attention of a query, of one head or of all; returns what a colour bar describes."""
    chosen = slice(None) if head is None else slice(head, head + 1)
    if isinstance(record, SampledAttention):
        return draw_places(axes, scene, record, query, chosen)
    if isinstance(record, DenseAttention) and record.points is not None:
        height, width = scene.image.shape[:2]
        points = record.points[0, query, chosen].float().cpu() * torch.tensor([width, height])
        axes.plot(*(points - 0.5).T.numpy(), 'x', color='cyan', markersize=6, mew=1.5)
    return draw_map(
        axes, scene, joined_map(record.dense()[0, chosen, query].mean(0), record.shapes)
    )


def draw_map(axes: Axes, scene: Scene, weights: np.ndarray) -> Any:
    """Lay weights (H, W) of the cells over the image; the largest has the brightest colour."""
    width, height = scene.canvas
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    style = {'alpha': 0.65, 'interpolation': 'bilinear', **SHARE}
    limits = axes.get_xlim(), axes.get_ylim()
    drawn = axes.imshow(weights / max(weights.max(), TINY), extent=extent, **style)
    axes.set(xlim=limits[0], ylim=limits[1])
    return drawn


def draw_places(
    axes: Axes, scene: Scene, record: SampledAttention, query: int, heads: slice
) -> Any:
    """Draw the sampled places of a query as dots, the heaviest last."""
    places = torch.cat([x[0, query, heads].flatten(0, -2) for x in record.locations]).float().cpu()
    weights = torch.cat([w[0, query, heads].flatten() for w in record.weights]).float().cpu()
    order = weights.argsort()
    shares = (weights[order] / weights.max().clamp(min=TINY)).numpy()
    x, y = (places[order] * torch.tensor(scene.canvas) - 0.5).T.numpy()
    return axes.scatter(x, y, c=shares, s=14, edgecolors='white', lw=0.3, **SHARE)


def _parts(record: Attention) -> dict[str, Tensor]:
    """Maps (B, heads, N, S) by name, of which the weights are made."""
    if isinstance(record, AxisAttention):
        even_rows = torch.ones_like(record.column)[..., :, None]
        even_columns = torch.ones_like(record.row)[..., None, :]
        return {
            'columns': (even_rows * record.row[..., None, :]).flatten(-2),
            'rows': (record.column[..., :, None] * even_columns).flatten(-2),
        }
    return dict(record.parts) if isinstance(record, DenseAttention) else {}


def joined_map(weights: Tensor, shapes: Shapes) -> np.ndarray:
    """Weights (S,) of the cells of all levels as one map (H, W) of the finest: levels are added up."""
    finest = max(shapes)
    maps = [to_map(weights, shapes, level) for level in range(len(shapes))]
    # A coarse cell covers several fine ones, which share its weight.
    parts = [resized_map(m[None], finest)[0] * (m.numel() / (finest[0] * finest[1])) for m in maps]
    return torch.stack(parts).sum(0).cpu().numpy()


def draw_box(axes: Axes, box: np.ndarray, width: float = 2.0) -> None:
    left, top, right, bottom = box.tolist()
    axes.add_patch(
        Rectangle((left, top), right - left, bottom - top, fill=False, color='lime', lw=width)
    )


def token_at(scene: Scene, shapes: Shapes, x: float, y: float) -> int:
    """The token of the finest recorded level whose cell holds a pixel.

    Raises:
        ValueError: the pixel lies outside the image.
    """
    height, width = scene.image.shape[:2]
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f'a point must lie in the image, {width} x {height}, got ({x:g}, {y:g})')
    finest = max(shapes)
    start = sum(h * w for h, w in shapes[: shapes.index(finest)])
    column = int(x / scene.canvas[0] * finest[1])
    row = int(y / scene.canvas[1] * finest[0])
    return start + row * finest[1] + column


def _inside(scene: Scene, x: float, y: float) -> tuple[float, float]:
    height, width = scene.image.shape[:2]
    return min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)


def _which(layer: int) -> str:
    return 'last layer' if layer == -1 else f'layer {layer + 1}' if layer >= 0 else f'layer {layer}'


def _add_bar(figure: Figure, panels: np.ndarray, drawn: Any) -> None:
    label = 'share of the largest'
    figure.colorbar(drawn, ax=panels.ravel().tolist(), label=label, fraction=0.03, pad=0.01)


def _title(axes: Axes, text: str) -> None:
    """A title that is broken into lines as wide as the panel."""
    width = axes.get_window_extent().width / axes.figure.get_dpi()
    axes.set_title(textwrap.fill(text, max(8, int(width * LETTERS))), fontsize='medium')

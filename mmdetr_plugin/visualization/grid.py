"""Draws many images with their predicted and true boxes into one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

COLOURS = [
    (66, 133, 244), (219, 68, 55), (244, 180, 0), (15, 157, 88), (171, 71, 188),
    (0, 172, 193), (255, 112, 67), (158, 157, 36), (92, 107, 192), (240, 98, 146),
]  # fmt: skip
WHITE, DARK = (255, 255, 255), (32, 33, 36)
GAP, BAND, FONT = 6, 26, cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Picture:
    """One image of a grid.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        boxes, labels, scores: predictions, (M, 4) xyxy in pixels, (M,) and (M,).
        true_boxes, true_labels: ground truth, (n, 4) and (n,).
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    true_boxes: np.ndarray
    true_labels: np.ndarray


def draw_grid(
    pictures: Sequence[Picture],
    names: Sequence[str],
    columns: int = 6,
    scale: int = 2,
    score_thr: float = 0.4,
) -> np.ndarray:
    """Draw a grid: true boxes white and thin, predictions coloured with class name and score.

    Args:
        pictures: the images; every cell has the size of the largest one.
        names: class names, in the order of the labels.
        columns: number of cells in a row.
        scale: enlargement, so that text is legible on small images.
        score_thr: predictions below this score are left out.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: there are no pictures.
    """
    if not pictures:
        raise ValueError('a grid must have at least one picture, got none; draw more images')
    cells = [draw_picture(picture, names, scale, score_thr) for picture in pictures]
    height, width = (max(cell.shape[i] for cell in cells) for i in (0, 1))
    rows = -(-len(cells) // columns)
    columns = min(columns, len(cells))
    shape = (BAND + rows * (height + GAP), columns * (width + GAP) + GAP, 3)
    canvas = np.full(shape, DARK, np.uint8)
    text = f'white: truth   coloured: prediction (class, score >= {score_thr:g})'
    cv2.putText(canvas, text, (GAP, 18), FONT, 0.5, WHITE, 1, cv2.LINE_AA)
    for i, cell in enumerate(cells):
        y, x = BAND + i // columns * (height + GAP), GAP + i % columns * (width + GAP)
        canvas[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
    return canvas


def draw_picture(
    picture: Picture, names: Sequence[str], scale: int = 1, score_thr: float = 0.4
) -> np.ndarray:
    """One cell of a grid, see :func:`draw_grid`."""
    cell = cv2.resize(picture.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    for box in picture.true_boxes:
        _rectangle(cell, box * scale, WHITE, 1)
    for box, label, score in zip(picture.boxes, picture.labels, picture.scores, strict=True):
        if score < score_thr:
            continue
        colour = COLOURS[int(label) % len(COLOURS)]
        x, y = _rectangle(cell, box * scale, colour, 2)
        _caption(cell, f'{names[int(label)]} {score:.2f}', x, y, colour)
    return cell


def _rectangle(
    cell: np.ndarray, box: np.ndarray, colour: tuple[int, int, int], thickness: int
) -> tuple[int, int]:
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    cv2.rectangle(cell, (x1, y1), (x2, y2), colour, thickness, cv2.LINE_AA)
    return x1, y1


def _caption(cell: np.ndarray, text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    (width, height), _ = cv2.getTextSize(text, FONT, 0.42, 1)
    x = max(0, min(x, cell.shape[1] - width - 4))
    y = max(height + 5, y)
    cv2.rectangle(cell, (x, y - height - 5), (x + width + 4, y), colour, -1)
    cv2.putText(cell, text, (x + 2, y - 3), FONT, 0.42, WHITE, 1, cv2.LINE_AA)

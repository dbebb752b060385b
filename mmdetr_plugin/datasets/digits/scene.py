"""Draws one picture of the digits set: handwriting on a crop of a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .material import Material, absorb

MAX_GLYPHS = 5
MIN_CONTRAST = 50  # luminance (0..255) between the ink and at least nine tenths of its surroundings
MAX_OVERLAP = 0.1  # share of the smaller of two boxes; ink itself never touches other ink

HEIGHTS = (0.125, 0.4)  # of the picture's side: 20 to 64 pixels of 160
_WIDTH = (0.8, 1.15)  # of the height
_MAX_ANGLE = 12.0  # degrees; small enough to keep 6 and 9 distinct
_INK_EDGE = (0.35, 0.7)  # resized ink that is invisible and opaque; the mask starts half way
_MAX_ZOOM = 1.6  # pixels of the photograph per pixel of the picture
_SHAPES, _PLACES = 4, 10  # attempts per glyph, before the glyph is left out
_COLOURS = 16  # attempts at one place
_GLYPHS = 10  # attempts for each glyph of a given number, before a new picture is begun
_MARGIN = 2  # pixels around the ink's box: its surroundings, which lie within the picture too
_MIN_STUFF = 64  # pixels; a class with fewer joins its neighbours
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, of RGB


@dataclass(frozen=True)
class Ink:
    """One drawn glyph: its index in scikit-learn's set, its digit and its (S, S) bool mask."""

    glyph: int
    digit: int
    mask: np.ndarray


@dataclass(frozen=True)
class Scene:
    """A picture (S, S, 3) uint8 RGB, its glyphs, and the (S, S) stuff labels beneath them."""

    image: np.ndarray
    inks: tuple[Ink, ...]
    stuff: np.ndarray


def draw_scene(
    rng: np.random.RandomState,
    material: Material,
    glyphs: Sequence[int],
    size: int,
    number: int | None = None,
    heights: tuple[float, float] = HEIGHTS,
) -> Scene:
    """Draw some of ``glyphs`` on a ``size`` x ``size`` crop of a photograph.

    Args:
        number: of glyphs; None = 1 to 5 are tried, and those for which there is no place left out.
        heights: lowest and highest height of a glyph, as a share of ``size``.
    """
    inks: list[Ink] = []
    while not inks or (number is not None and len(inks) < number):  # else it is thrown away
        image, stuff = _background(rng, material, size)
        boxes: list[tuple[int, int, int, int]] = []
        taken = np.zeros((size, size), bool)
        inks = []
        for _ in range(rng.randint(1, MAX_GLYPHS + 1) if number is None else _GLYPHS * number):
            glyph = int(rng.choice(glyphs))
            mask = _paste(rng, image, material.glyphs[glyph], boxes, taken, heights)
            if mask is not None:
                inks.append(Ink(glyph, int(material.labels[glyph]), mask))
            if len(inks) == number:
                break
    return Scene(np.rint(image).astype(np.uint8), tuple(inks), stuff)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Tight ``(x1, y1, x2, y2)`` of a mask, the right and lower side exclusive."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _background(
    rng: np.random.RandomState, material: Material, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """A random square crop, mirrored or not: float32 RGB (S, S, 3) and stuff labels (S, S)."""
    which = rng.randint(len(material.photos))
    photo, stuff = material.photos[which], material.stuff[which]
    height, width = stuff.shape
    side = int(size * rng.uniform(1, min(_MAX_ZOOM, height / size)))
    top, left = rng.randint(height - side + 1), rng.randint(width - side + 1)
    step = -1 if rng.randint(2) else 1
    crop = photo[top : top + side, left : left + side][:, ::step]
    labels = stuff[top : top + side, left : left + side][:, ::step]
    image = cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=cv2.INTER_AREA)
    labels = cv2.resize(np.ascontiguousarray(labels), (size, size), interpolation=cv2.INTER_NEAREST)
    few = np.bincount(labels.ravel()) < _MIN_STUFF
    brightness = rng.uniform(0.85, 1.1)
    return np.clip(image * np.float32(brightness), 0, 255), absorb(labels, few[labels])


def _paste(
    rng: np.random.RandomState,
    image: np.ndarray,
    glyph: np.ndarray,
    boxes: list[tuple[int, int, int, int]],
    taken: np.ndarray,
    heights: tuple[float, float],
) -> np.ndarray | None:
    """Draw one glyph into ``image``; return its mask (S, S), or None if no place was found.

    The drawn glyph is added to ``boxes`` and to ``taken`` (S, S), the pixels at or next to ink.
    """
    size = len(image)
    for attempt in range(_SHAPES * _PLACES):
        if attempt % _PLACES == 0:
            alpha = _render(rng, glyph, size, heights)  # (h, w)
            height, width = alpha.shape
            x1, y1, x2, y2 = box_of(alpha >= 0.5)
        top, left = rng.randint(size - height + 1), rng.randint(size - width + 1)
        place = np.s_[top : top + height, left : left + width]
        box = (left + x1, top + y1, left + x2, top + y2)
        if any(_overlap(box, other) > MAX_OVERLAP for other in boxes):
            continue
        if (taken[place] & (alpha > 0)).any():
            continue
        colour = _colour(rng, image[place][alpha == 0] @ _LUMINANCE)
        if colour is None:
            continue
        image[place] += alpha[..., None] * (colour - image[place])
        mask = np.zeros((size, size), bool)
        mask[place] = alpha >= 0.5
        taken |= cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        boxes.append(box)
        return mask
    return None


def _render(
    rng: np.random.RandomState, glyph: np.ndarray, size: int, heights: tuple[float, float]
) -> np.ndarray:
    """Resize and rotate a glyph: opacity (h, w) in 0..1 with a small margin."""
    height = size * rng.uniform(*heights)
    width = height * rng.uniform(*_WIDTH)
    angle = np.deg2rad(rng.uniform(-_MAX_ANGLE, _MAX_ANGLE))
    side = int(np.ceil(1.7 * max(height, width)))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([width / 8, height / 8])
    centre = np.array([3.5, 3.5])  # of the 8x8 glyph
    shift = side / 2 - linear @ centre
    ink = cv2.warpAffine(
        glyph, np.hstack([linear, shift[:, None]]), (side, side), flags=cv2.INTER_CUBIC
    )
    low, high = _INK_EDGE
    alpha = np.clip((ink - low) / (high - low), 0, 1)
    x1, y1, x2, y2 = box_of(alpha > 0)
    return np.pad(alpha[y1:y2, x1:x2], _MARGIN)


def _colour(rng: np.random.RandomState, around: np.ndarray) -> np.ndarray | None:
    """A random RGB colour that contrasts with the luminances (P,) around the ink, or None."""
    for _ in range(_COLOURS):
        colour = np.clip(255 * (1.5 * rng.rand(3) - 0.25), 0, 255).astype(np.float32)
        if (np.abs(around - colour @ _LUMINANCE) >= MIN_CONTRAST).mean() >= 0.9:
            return colour
    return None


def _overlap(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Area of the intersection of two boxes as a share of the smaller box."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return max(width, 0) * max(height, 0) / smaller

"""Loads the material of the digits set: the glyphs and photographs bundled with scikit-learn.

Handwriting: 1,797 glyphs of 8x8, UCI "Optical Recognition of Handwritten Digits".
Photographs: ``china.jpg`` (danielbuechele) and ``flower.jpg`` (vultilion), both CC BY 2.0.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

STUFF_CLASSES = ('sky', 'water', 'building', 'tree', 'petal', 'leaf')

# Outline of the pagoda in china.jpg as (x, y) in pixels of the 640 x 427 photograph: by colour alone
# it cannot be separated from the trees in front of it.
# fmt: off
_PAGODA = (
    (196, 28), (214, 28), (222, 66), (268, 100), (322, 118), (324, 130), (300, 140), (304, 158),
    (332, 172), (328, 186), (322, 190), (326, 234), (356, 256), (350, 268), (344, 280), (350, 316),
    (374, 336), (372, 346), (340, 372), (322, 392), (322, 427), (286, 427), (284, 404), (262, 392),
    (206, 368), (176, 346), (140, 334), (74, 344), (76, 290), (58, 276), (62, 258), (96, 246),
    (94, 196), (80, 184), (82, 166), (120, 156), (116, 142), (92, 130), (94, 106), (116, 96),
    (160, 80), (190, 62),
)
# fmt: on
_HORIZON = 208  # row of china.jpg between sky and water
_MIN_REGION = 400  # pixels of the photograph; smaller regions join their surroundings


@dataclass(frozen=True)
class Material:
    """The glyphs and photographs that the pictures are made of.

    Attributes:
        glyphs: (1797, 8, 8) float32 ink in 0..1.
        labels: (1797,) digit of each glyph.
        photos: RGB photographs, (427, 640, 3) uint8 each.
        stuff: for each photograph, (427, 640) uint8 indices into ``STUFF_CLASSES``.
    """

    glyphs: np.ndarray
    labels: np.ndarray
    photos: tuple[np.ndarray, ...]
    stuff: tuple[np.ndarray, ...]


def load_material() -> Material:
    """Read the glyphs and photographs from scikit-learn.

    Raises:
        ImportError: scikit-learn is not installed, or Pillow, with which it reads photographs.
    """
    try:
        from sklearn.datasets import load_digits, load_sample_image

        china, flower = load_sample_image('china.jpg'), load_sample_image('flower.jpg')
    except ImportError as error:
        raise ImportError(
            'the digits set needs scikit-learn and Pillow, which could not be imported '
            f"({error}); run pip install '.[demo]'"
        ) from error
    digits = load_digits()
    return Material(
        glyphs=(digits.images / 16).astype(np.float32),
        labels=digits.target.astype(np.int64),
        photos=(np.ascontiguousarray(china), np.ascontiguousarray(flower)),
        stuff=(_china_stuff(china), _flower_stuff(flower)),
    )


def absorb(labels: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Give every pixel in the mask ``small`` the label of the nearest pixel outside; both (H, W)."""
    if not small.any() or small.all():
        return labels
    nearest = ndimage.distance_transform_edt(
        small, return_distances=False, return_indices=True
    )  # (2, H, W)
    return labels[tuple(nearest)]


def _china_stuff(rgb: np.ndarray) -> np.ndarray:
    """Label sky and water (pale, split at the horizon), the pagoda (by outline) and trees (rest)."""
    red, blue = rgb[..., 0].astype(int), rgb[..., 2].astype(int)
    hsv = cv2.cvtColor(cv2.GaussianBlur(rgb, (3, 3), 0), cv2.COLOR_RGB2HSV)
    pale = (hsv[..., 2] > 140) & (hsv[..., 1] < 75) & (blue >= red - 12)
    below = np.arange(len(rgb))[:, None] >= _HORIZON
    pagoda = np.zeros(rgb.shape[:2], np.uint8)
    cv2.fillPoly(pagoda, [np.array(_PAGODA, np.int32)], 1)
    ground = np.where(pagoda > 0, STUFF_CLASSES.index('building'), STUFF_CLASSES.index('tree'))
    air = np.where(below, STUFF_CLASSES.index('water'), STUFF_CLASSES.index('sky'))
    return _smooth(np.where(pale, air, ground), kernel=7)


def _flower_stuff(rgb: np.ndarray) -> np.ndarray:
    """Label the blossom, which is bright and orange, and the dark blue-green leaves."""
    red, blue = rgb[..., 0].astype(int), rgb[..., 2].astype(int)
    petal = (red > blue + 40) & (rgb.max(axis=2) > 110)
    labels = np.where(petal, STUFF_CLASSES.index('petal'), STUFF_CLASSES.index('leaf'))
    return _smooth(labels, kernel=9)


def _smooth(labels: np.ndarray, kernel: int) -> np.ndarray:
    """Apply a median filter, then merge regions below ``_MIN_REGION`` with their surroundings."""
    labels = cv2.medianBlur(labels.astype(np.uint8), kernel)
    small = np.zeros(labels.shape, bool)
    for label in np.unique(labels):
        regions, _ = ndimage.label(labels == label)
        small |= (regions > 0) & (np.bincount(regions.ravel()) < _MIN_REGION)[regions]
    return absorb(labels, small)

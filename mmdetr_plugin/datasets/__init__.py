"""Data sets that need no download, and what loads them."""

from .digits import make_digits
from .digits_coco import DIGIT_CLASSES, STUFF_CLASSES

__all__ = ['DIGIT_CLASSES', 'STUFF_CLASSES', 'make_digits']

"""Draws predictions."""

from .box_sizes import draw_sizes
from .grid import Picture, draw_grid
from .panoptic import PanopticVisualizer
from .validation import draw_validation

__all__ = ['PanopticVisualizer', 'Picture', 'draw_grid', 'draw_sizes', 'draw_validation']

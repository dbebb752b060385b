"""Draws predictions."""

from .grid import Picture, draw_grid
from .panoptic import PanopticVisualizer

__all__ = ['PanopticVisualizer', 'Picture', 'draw_grid']

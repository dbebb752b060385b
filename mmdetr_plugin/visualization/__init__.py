"""Pictures."""

from .grid import Picture, draw_grid

__all__ = ['Picture', 'draw_grid']

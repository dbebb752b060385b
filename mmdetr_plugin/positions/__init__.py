"""Position codes of feature maps and of object queries."""

from .cells import CellPosition
from .maps import AnchorPosition, LearnedPosition, PositionEncoding, SinePosition
from .queries import (
    BoxPosition,
    ConditionalPosition,
    DeformableBoxPosition,
    MLPPosition,
    SineQueryPosition,
)

__all__ = [
    'AnchorPosition',
    'BoxPosition',
    'CellPosition',
    'ConditionalPosition',
    'DeformableBoxPosition',
    'LearnedPosition',
    'MLPPosition',
    'PositionEncoding',
    'SinePosition',
    'SineQueryPosition',
]

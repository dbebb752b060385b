"""Position codes of feature maps and of object queries."""

from .maps import AnchorPosition, LearnedPosition, PositionEncoding, SinePosition
from .queries import BoxPosition, ConditionalPosition, DeformableBoxPosition, SineQueryPosition

__all__ = [
    'AnchorPosition',
    'BoxPosition',
    'ConditionalPosition',
    'DeformableBoxPosition',
    'LearnedPosition',
    'PositionEncoding',
    'SinePosition',
    'SineQueryPosition',
]

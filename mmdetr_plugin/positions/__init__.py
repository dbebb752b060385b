"""Position codes of feature maps (slot S2) and of object queries (slot S7)."""

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

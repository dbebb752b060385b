"""Encoder, decoder and their layers."""

from .decoder import Decoder
from .encoder import Encoder
from .ffn import FeedForward
from .layers import DecoderLayer, EncoderLayer
from .memory_adapter import FinestLevelDownsampler
from .residuals import GatedFusion, PostNorm, PreNorm, Residual

__all__ = [
    'Decoder',
    'DecoderLayer',
    'Encoder',
    'EncoderLayer',
    'FeedForward',
    'FinestLevelDownsampler',
    'GatedFusion',
    'PostNorm',
    'PreNorm',
    'Residual',
]

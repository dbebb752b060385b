"""Encoder, decoder and their layers."""

from .convolutions import CSPRepBlock, RepVGGBlock
from .decoder import Decoder
from .elan import RepNCSPELAN4, SeparableDownsample
from .encoder import Encoder
from .ffn import FeedForward, GatedFeedForward
from .hybrid_encoder import HybridEncoder
from .layers import DecoderLayer, EncoderLayer
from .memory_adapter import FinestLevelDownsampler
from .residuals import GatedFusion, PostNorm, PreNorm, Residual

__all__ = [
    'CSPRepBlock',
    'Decoder',
    'DecoderLayer',
    'Encoder',
    'EncoderLayer',
    'FeedForward',
    'FinestLevelDownsampler',
    'GatedFeedForward',
    'GatedFusion',
    'HybridEncoder',
    'PostNorm',
    'PreNorm',
    'RepNCSPELAN4',
    'RepVGGBlock',
    'Residual',
    'SeparableDownsample',
]

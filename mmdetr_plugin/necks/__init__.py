"""Necks."""

from .encoder_neck import EncoderNeck
from .normed_fpn import NormedFPN

__all__ = ['EncoderNeck', 'NormedFPN']

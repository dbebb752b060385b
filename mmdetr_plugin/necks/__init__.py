"""Necks."""

from .encoder_neck import EncoderNeck
from .normed_fpn import NormedFPN
from .projector import MultiScaleProjector

__all__ = ['EncoderNeck', 'MultiScaleProjector', 'NormedFPN']

"""Necks."""

from .encoder_neck import EncoderNeck
from .projector import MultiScaleProjector

__all__ = ['EncoderNeck', 'MultiScaleProjector']

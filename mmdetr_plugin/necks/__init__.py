"""Necks."""

from .encoder_neck import EncoderNeck

__all__ = ['EncoderNeck']

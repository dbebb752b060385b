"""Necks (slot S1)."""

from .encoder_neck import EncoderNeck

__all__ = ['EncoderNeck']

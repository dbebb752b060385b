"""Backbones."""

from .resnet import DilatedResNet
from .timm import TimmBackbone

__all__ = ['DilatedResNet', 'TimmBackbone']

"""Backbones."""

from .channels import map_channels
from .resnet import DilatedResNet
from .timm import TimmBackbone

__all__ = ['DilatedResNet', 'TimmBackbone', 'map_channels']

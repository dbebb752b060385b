"""Backbones."""

from .channels import map_channels
from .hgnet import HGNetV2
from .resnet import DilatedResNet
from .timm import TimmBackbone

__all__ = ['DilatedResNet', 'HGNetV2', 'TimmBackbone', 'map_channels']

"""Backbones."""

from .channels import map_channels
from .resnet import DilatedResNet
from .timm import TimmBackbone
from .windowed_vit import WindowedViT

__all__ = ['DilatedResNet', 'TimmBackbone', 'WindowedViT', 'map_channels']

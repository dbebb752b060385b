"""Backbones."""

from .channels import map_channels
from .resnet import DilatedResNet
from .resnet_vd import ResNetVD
from .timm import TimmBackbone
from .windowed_vit import WindowedViT

__all__ = ['DilatedResNet', 'ResNetVD', 'TimmBackbone', 'WindowedViT', 'map_channels']

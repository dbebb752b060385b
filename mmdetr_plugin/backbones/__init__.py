"""Backbones."""

from .channels import map_channels
from .resnet import DilatedResNet
from .resnet_vd import ResNetVD
from .timm import TimmBackbone

__all__ = ['DilatedResNet', 'ResNetVD', 'TimmBackbone', 'map_channels']

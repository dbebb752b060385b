"""Backbones."""

from .channels import map_channels
from .hgnet import HGNetV2
from .resnet import DilatedResNet
from .resnet_vd import ResNetVD
from .timm import TimmBackbone

__all__ = ['DilatedResNet', 'HGNetV2', 'ResNetVD', 'TimmBackbone', 'map_channels']

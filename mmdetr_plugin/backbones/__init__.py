"""Backbones."""

from .channels import map_channels
from .hgnet import HGNetV2
from .resnet import DilatedResNet
from .resnet_vd import ResNetVD
from .spatial_tuning_adapter import SpatialTuningAdapter
from .timm import TimmBackbone
from .windowed_vit import WindowedViT

__all__ = [
    'DilatedResNet',
    'HGNetV2',
    'ResNetVD',
    'SpatialTuningAdapter',
    'TimmBackbone',
    'WindowedViT',
    'map_channels',
]

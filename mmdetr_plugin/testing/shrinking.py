"""Configs of small models: the same variant with fewer layers, channels and queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import ConfigDict

SWIN = {
    'embed_dims': 8,
    'depths': (2, 2, 2, 2),
    'num_heads': (1, 2, 4, 8),
    'window_size': 4,
    'init_cfg': None,
}
"""Entries to replace in a SwinTransformer, whatever the size."""

VIT: dict[str, Any] = {
    'embed_dims': 48,
    'num_heads': 4,
    'patch_size': 16,
    'windows': 2,
    'grid_size': 6,
    'init_cfg': None,
}
"""Entries to replace in a WindowedViT, whatever the size."""


HGNET = {'arch': 'B0', 'init_cfg': None}
"""Entries to replace in an HGNetV2; its width shrinks as that of a ResNet."""


@dataclass(frozen=True)
class ModelSize:
    """What :func:`shrink` changes in the config of a model.

    Attributes:
        depths: largest number of layers of the encoder and of the decoder.
        backbone: entries to replace in a ResNet, which becomes a ResNet-18 or 34; other backbones
            become as thin.
        everywhere: entries to replace wherever their key stands in the config.
        model: entries of the model itself to replace.
    """

    depths: tuple[int, int]
    backbone: Mapping[str, Any]
    everywhere: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)


TINY = ModelSize(
    depths=(1, 2),
    backbone={'depth': 18, 'base_channels': 8, 'stem_channels': 8, 'init_cfg': None},
    everywhere={
        'hidden_dims': 48,
        'hidden_channels': 24,
        'num_queries': 12,
        'num_many': 24,
        'num_groups': 8,
        'num_patches': 3,
        'out_channels': 64,
    },
    model={'embed_dims': 32, 'dropout': 0.0, 'num_classes': 5},
)
"""The size of the unit tests: a forward pass takes milliseconds."""


def shrink(model: Mapping, size: ModelSize = TINY, **changes: object) -> ConfigDict:
    """A small copy of a model's config, ours or mmdet's.

    Args:
        model: ``cfg.model`` of any variant with a ResNet, HGNetV2, SwinTransformer or WindowedViT, or
            one of these in a ``SpatialTuningAdapter``; it is not changed.
        size: what to replace.
        changes: further entries of the model to replace, e.g. ``num_classes``.
    """
    small: ConfigDict = replace_everywhere(model, size.everywhere)
    backbone = small.backbone.get('vit', small.backbone)
    backbone.update(backbone_entries(backbone, size.backbone))
    if backbone.type.endswith('WindowedViT'):
        small.data_preprocessor.pad_size_divisor = VIT['patch_size'] * VIT['windows']
    # A mask head reads the maps before those of the neck too.
    if 'in_channels' in small.neck:
        widths = [small.backbone.base_channels * 2**i for i in small.backbone.out_indices]
        small.neck.in_channels = widths[-len(small.neck.in_channels) :]
    if 'embed_dims' in small.get('queries', {}) and 'embed_dims' in size.model:
        small.queries.embed_dims += size.model['embed_dims'] - model['embed_dims']
    for part, depth in zip((small.get('encoder'), small.decoder), size.depths):
        if part:
            depth = min(part.num_layers, depth)
            if part.get('eval_layer') is not None:
                part.eval_layer = part.eval_layer * depth // part.num_layers
            part.num_layers = depth
    if small.get('encoder_dims') and 'embed_dims' in size.model:
        small.encoder_dims = 3 * size.model['embed_dims'] // 2
    small.update({**size.model, **changes})
    return small


def backbone_entries(backbone: Mapping, resnet: Mapping[str, Any]) -> Mapping[str, Any]:
    """What to replace in the config of a backbone, where ``resnet`` is for a ResNet."""
    kind = backbone['type']
    if kind.endswith('SwinTransformer'):
        return SWIN
    if kind.endswith('WindowedViT'):
        rotary = backbone['grid_size'] is None
        return {**VIT, 'windows': 1, 'grid_size': None} if rotary else VIT
    if kind.endswith('HGNetV2'):
        return {**HGNET, 'width': resnet.get('base_channels', 64) / 64}
    return resnet


def replace_everywhere(node: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a nested config in which every key of ``values`` has that value."""
    if isinstance(node, Mapping):
        return ConfigDict(
            {
                k: values[k] if k in values else replace_everywhere(v, values)
                for k, v in node.items()
            }
        )
    if isinstance(node, (list, tuple)):
        return type(node)(replace_everywhere(item, values) for item in node)
    return node

"""Learning rates that fall from the last block of a backbone to its first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmdet.models.backbones import ResNet, SwinTransformer
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from ..backbones.windowed_vit import WindowedViT
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS
from .optim_constructor import NORMS

KNOWN = (WindowedViT, SwinTransformer, ResNet)

UNDECAYED = ('norm', 'bias', 'pos_embed', 'class_token')
"""Parts of names of parameters of the backbone that have no weight decay."""

BLOCK = re.compile(r'(?:blocks|stages\.(\d+)\.blocks|layer(\d+))\.(\d+)\.')
"""Beginnings of names of parameters of a block: of a ViT, of Swin, of a ResNet and its relatives."""

MERGING = re.compile(r'stages\.(\d+)\.downsample\.')
"""Swin's reduction of the resolution, with which mmdet ends a stage."""

Place = tuple[int, int]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor for :class:`WindowedViT`, mmdet's Swin, and ResNet with its relatives.

    The norms of the backbone's outputs learn at the rate of ``custom_keys['backbone']``, block i of n
    at ``rate^(n - i)`` times that; what comes before the blocks (patches, position codes, the first
    convolutions) at ``rate^(n + 1)`` times that (LW-DETR's and RF-DETR's official code). Blocks are
    counted through all stages. Norms, biases and position codes have no weight decay.

    Args:
        optim_wrapper_cfg: as MMEngine's.
        paramwise_cfg: as MMEngine's, and ``layer_decay``, a dictionary with ``rate``; ``layers``, the n
            above, by default the number of blocks; and ``undecayed``, further parts of names of
            parameters without weight decay.

    Raises:
        ValueError: there is no ``layer_decay``, or the model has another backbone.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        rest = dict(paramwise_cfg or {})
        if 'rate' not in rest.get('layer_decay', {}):
            raise ValueError(
                'optim_wrapper.paramwise_cfg must have layer_decay=dict(rate=...) for '
                f'LayerDecayConstructor, got {sorted(rest)}; add it, or leave out the constructor'
            )
        self.layer_decay = rest.pop('layer_decay')
        super().__init__(optim_wrapper_cfg, rest)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        model = getattr(model, 'module', model)  # of DDP
        keys = self.paramwise_cfg.get('custom_keys', {})
        own = self.backbone_keys(model.get_submodule('backbone'), keys.get('backbone', {}))
        self.paramwise_cfg['custom_keys'] = {**keys, **own}
        wrapper = super().__call__(model)
        self.paramwise_cfg['custom_keys'] = keys
        return wrapper

    def backbone_keys(
        self, backbone: nn.Module, options: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """For each parameter of the backbone, by its full name, its options in ``custom_keys``."""
        names = [name for name, _ in backbone.named_parameters()]
        if not isinstance(backbone, KNOWN):
            raise ValueError(
                f'model.backbone must be one of {[cls.__name__ for cls in KNOWN]} for '
                f'LayerDecayConstructor, got {type(backbone).__name__}; leave out '
                'optim_wrapper.constructor'
            )
        blocks = sorted({place for name in names if (place := block_of(name))})
        layers = self.layer_decay.get('layers', len(blocks))
        undecayed = (*UNDECAYED, *self.layer_decay.get('undecayed', ()))
        norms = norm_parameters(backbone)
        keys = {}
        for name in names:
            above = layers + 1  # of what comes before the blocks
            place = block_of(name)
            if place is not None:
                above = layers - blocks.index(place)
            elif name.startswith('norm'):
                above = 0
            made = dict(options)
            made['lr_mult'] = options.get('lr_mult', 1.0) * self.layer_decay['rate'] ** above
            if name in norms or any(part in name for part in undecayed):
                made['decay_mult'] = 0.0
            keys[f'backbone.{name}'] = made
        return keys


def block_of(name: str) -> Place | None:
    """(stage, block) of a parameter of a backbone; None if it belongs to no block.

    A reduction between two stages has the rate of the first block after it, as in timm.
    """
    found = BLOCK.match(name)
    if found:
        return int(found[1] or found[2] or 0), int(found[3])
    found = MERGING.match(name)
    return None if found is None else (int(found[1]) + 1, 0)


def norm_parameters(backbone: nn.Module) -> set[str]:
    """Names of the weights and biases of norms."""
    norms = [(name, part) for name, part in backbone.named_modules() if isinstance(part, NORMS)]
    return {f'{name}.{own}' for name, part in norms for own, _ in part.named_parameters()}

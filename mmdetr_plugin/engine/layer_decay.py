"""Learning rates that fall from the last block of a ViT to its first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from ..backbones.windowed_vit import WindowedViT
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS

UNDECAYED = ('norm', 'bias', 'pos_embed', 'class_token')
"""Parts of names of parameters of the backbone that have no weight decay."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor for models with a :class:`WindowedViT`.

    The last norm of the ViT learns at the rate of ``custom_keys['backbone']``, block i of n at
    ``rate^(n - i)`` times that, patches and position codes at ``rate^(n + 1)`` times that (LW-DETR's
    and RF-DETR's official code). Norms, biases and position codes have no weight decay.

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
        if not isinstance(backbone, WindowedViT):
            raise ValueError(
                'model.backbone must be a WindowedViT for LayerDecayConstructor, got '
                f'{type(backbone).__name__}; leave out optim_wrapper.constructor'
            )
        layers = self.layer_decay.get('layers', len(backbone.blocks))
        undecayed = (*UNDECAYED, *self.layer_decay.get('undecayed', ()))
        keys = {}
        for name, _ in backbone.named_parameters():
            above = layers + 1  # of patches and position codes
            if name.startswith('blocks.'):
                above = layers - int(name.split('.')[1])
            elif name.startswith('norm.'):
                above = 0
            made = dict(options)
            made['lr_mult'] = options.get('lr_mult', 1.0) * self.layer_decay['rate'] ** above
            if any(part in name for part in undecayed):
                made['decay_mult'] = 0.0
            keys[f'backbone.{name}'] = made
        return keys

"""Which parameters have which learning rate and weight decay."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn
from torch.nn import GroupNorm, LayerNorm, RMSNorm
from torch.nn.modules.batchnorm import _BatchNorm

from ..registry import OPTIM_WRAPPER_CONSTRUCTORS

NORMS = (_BatchNorm, GroupNorm, LayerNorm, RMSNorm)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NoDecayConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, with ``norm_decay_mult`` and ``bias_decay_mult`` for all parameters.

    MMEngine's own leaves out those that a key of ``custom_keys`` names, so that norms of a backbone
    with a rate of its own would decay.
    """

    def add_params(
        self, params: list[dict[str, Any]], module: nn.Module, prefix: str = '', **options: Any
    ) -> None:
        super().add_params(params, module, prefix, **options)
        if prefix or self.base_wd is None:
            return  # of a part: the call for the model itself sees the groups of all parts
        decay: dict[int, float] = {}
        for part in module.modules():
            kind = 'norm' if isinstance(part, NORMS) else 'bias'
            for name, parameter in part.named_parameters(recurse=False):
                if kind == 'norm' or name.endswith('bias'):
                    decay[id(parameter)] = self.paramwise_cfg.get(f'{kind}_decay_mult', 1.0)
        for group in params:
            factors = {decay[id(p)] for p in group['params'] if id(p) in decay}
            if factors and factors != {1.0}:
                group['weight_decay'] = self.base_wd * factors.pop()

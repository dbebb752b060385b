"""SGD for some parameters and AdamW for others, and clipping of the latter's gradients alone (TSP)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from .optim_wrapper import FiniteOptimWrapper


@OPTIMIZERS.register_module()
class SGDWithAdamW(Optimizer):
    """AdamW for the groups whose ``adamw`` is true, SGD for the others.

    Args:
        params: parameters or groups.
        lr, weight_decay: of both.
        momentum: of SGD.
        betas: of AdamW.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self.momentum, self.betas = momentum, betas
        super().__init__(params, {'lr': lr, 'weight_decay': weight_decay, 'adamw': False})
        self._parts: tuple[list[dict], list[Optimizer]] | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._optimizers():
            part.step()
        return loss

    def _optimizers(self) -> list[Optimizer]:
        """Torch's optimizers, which share groups and state with this one."""
        if self._parts is None or self._parts[0] is not self.param_groups:
            chosen = [
                [g for g in self.param_groups if g['adamw'] == kind] for kind in (False, True)
            ]
            made: list[Optimizer] = []
            if chosen[0]:
                made.append(SGD(chosen[0], lr=0.0, momentum=self.momentum))
            if chosen[1]:
                made.append(AdamW(chosen[1], lr=0.0, betas=self.betas))
            for part in made:
                part.state = self.state
            self._parts = self.param_groups, made
        return self._parts[1]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class AdamWPartsConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor; AdamW trains the parameters of the parts that ``paramwise_cfg.adamw``
    names, and with :class:`PartialClipWrapper` only their gradients are clipped."""

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: Mapping | None = None) -> None:
        own = dict(paramwise_cfg or {})
        self.parts: tuple[str, ...] = tuple(own.pop('adamw', ()))
        super().__init__(optim_wrapper_cfg, own)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper.

        Raises:
            ValueError: a part has no parameters.
        """
        wrapper = super().__call__(model)
        names = {id(p): name for name, p in model.named_parameters()}
        unknown = [part for part in self.parts if not any(part in n for n in names.values())]
        if unknown:
            raise ValueError(
                f'paramwise_cfg.adamw must name parts of the model, got {unknown}; see '
                'tools/show_model.py for the names'
            )
        for group in wrapper.optimizer.param_groups:
            name = names[id(group['params'][0])]
            group['adamw'] = any(part in name for part in self.parts)
        return wrapper


@OPTIM_WRAPPERS.register_module()
class PartialClipWrapper(FiniteOptimWrapper):
    """``clip_grad`` applies to the parameters that AdamW trains."""

    def _clip_grad(self) -> None:
        groups = self.optimizer.param_groups
        params: list[Any] = [
            p for group in groups if group['adamw'] for p in group['params'] if p.grad is not None
        ]
        if params:
            norm = self.clip_func(params, **self.clip_grad_kwargs)
            if norm is not None:
                self.message_hub.update_scalar('train/grad_norm', float(norm))

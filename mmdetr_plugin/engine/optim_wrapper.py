"""Optimizer wrappers: steps that are not finite are skipped; training in bfloat16 on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ..registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class FiniteOptimWrapper(OptimWrapper):
    """MMEngine's wrapper, except that a step whose loss or gradient norm is not finite changes nothing.

    The gradient of a loss that is not finite is made NaN. DDP averages gradients, so all processes
    see it and skip the same step. Statistics of norm layers, which a forward pass has changed, are
    put back. With accumulation, all steps that are summed are skipped. ``NonFiniteHook`` counts and
    logs. Where FSDP gives each process a part of the gradient, the norm to clip is that of the whole.

    Attributes:
        skipped: whether the last step was skipped.
    """

    skipped = False
    _sharded: FullyShardedDataParallel | None = None
    _statistics: list[tuple[Tensor, Tensor]] | None = None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        self.skipped = False
        self._sharded = model if isinstance(model, FullyShardedDataParallel) else None
        self._keep_statistics(model)
        with super().optim_context(model):
            yield

    def update_params(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        good = torch.where(loss.detach().isfinite(), 1.0, torch.nan)
        super().update_params(loss * good, *args, **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clip the gradient and update the parameters, unless the gradient is not finite."""
        if self._is_finite():
            super().step(**kwargs)
        else:
            self._skip()

    def _clip_grad(self) -> None:
        if self._sharded is None or self.clip_func is not nn.utils.clip_grad_norm_:
            super()._clip_grad()
            return
        options = {k: v for k, v in self.clip_grad_kwargs.items() if k in ('max_norm', 'norm_type')}
        norm = self._sharded.clip_grad_norm_(**options)
        self.message_hub.update_scalar(f'train/{self.grad_name}', float(norm))

    def _is_finite(self) -> bool:
        """Whether the gradient's norm is, in all processes."""
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group['params'] if p.grad is not None]
        if not parameters:
            return True
        gradients = [p.grad.detach() for p in parameters if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))
        number = (~norms.isfinite()).sum()
        if self._sharded is not None or any(hasattr(p, 'device_mesh') for p in parameters):
            distributed.all_reduce(number)  # each process has a part of the gradient
        return not number.item()

    def _skip(self) -> None:
        self.skipped = True
        for buffer, kept in self._statistics or ():
            buffer.copy_(kept)

    def _keep_statistics(self, model: nn.Module) -> None:
        """Copy the running statistics that a forward pass in training changes."""
        if self._inner_count % self._accumulative_counts:
            return
        if self._statistics is None:
            buffers = [b for part in model.modules() for b in running_statistics(part)]
            self._statistics = [(buffer, buffer.clone()) for buffer in buffers]
        for buffer, kept in self._statistics:
            kept.copy_(buffer)


@OPTIM_WRAPPERS.register_module()
class FiniteAmpOptimWrapper(AmpOptimWrapper, FiniteOptimWrapper):
    """The same under autocast with scaled losses, as MMEngine's `AmpOptimWrapper`.

    The scaler skips steps whose scaled gradient is too large for fp16; these are no faults unless the
    loss itself is not finite.
    """

    _loss_is_finite: Tensor | None = None

    def update_params(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        finite = loss.detach().isfinite()
        seen = self._loss_is_finite
        self._loss_is_finite = finite if seen is None else seen & finite
        super().update_params(loss, *args, **kwargs)

    def step(self, **kwargs: Any) -> None:
        before = self.loss_scaler.get_scale()
        AmpOptimWrapper.step(self, **kwargs)
        if self.loss_scaler.get_scale() < before:  # the scaler has found an infinity or NaN
            bad = (~self._loss_is_finite).sum() if self._loss_is_finite is not None else None
            if bad is not None and distributed.is_available() and distributed.is_initialized():
                distributed.all_reduce(bad)
            if before < 1 or (bad is not None and bad.item()):
                self._skip()
        self._loss_is_finite = None


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(FiniteOptimWrapper):
    """Runs the forward pass under bfloat16 autocast, on the CPU too.

    MMEngine's `AmpOptimWrapper` works on accelerators only. bfloat16 has the range of float32, so it
    needs no loss scaling.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast(get_device(), torch.bfloat16):
            yield


def running_statistics(part: nn.Module) -> list[Tensor]:
    """Those of a norm layer in training."""
    if not isinstance(part, nn.modules.batchnorm._NormBase) or not part.training:
        return []
    return [b for b in (part.running_mean, part.running_var) if b is not None]

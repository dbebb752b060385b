"""Gradients that accumulation has summed, but not yet used, when a checkpoint is written."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, distributed, nn

from .hooks.effective_batch import accumulated_steps


def pending_gradients(runner: Runner) -> dict[str, Tensor]:
    """Gradients of steps since the last update, their mean over processes; empty if there are none.

    Call it in all processes. DDP averages the sums of all processes later: so the mean, restored in
    each of them, gives the same update up to rounding.
    """
    wrapper = runner.optim_wrapper
    steps = accumulated_steps(runner)
    count, last = getattr(wrapper, '_inner_count', 0), getattr(wrapper, '_max_counts', -1)
    if steps == 1 or count % steps == 0 or count == last:
        return {}
    found = {n: p.grad.detach().clone() for n, p in _parameters(runner) if p.grad is not None}
    if distributed.is_available() and distributed.is_initialized():
        for gradient in found.values():
            distributed.all_reduce(gradient)
            gradient /= distributed.get_world_size()
    return found


def restore_gradients(runner: Runner, gradients: Mapping[str, Tensor]) -> None:
    """Set the gradients that :func:`pending_gradients` found."""
    if gradients:
        for name, parameter in _parameters(runner):
            if name in gradients and parameter.requires_grad:
                parameter.grad = gradients[name].to(parameter, copy=True)


def _parameters(runner: Runner) -> list[tuple[str, nn.Parameter]]:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return [*model.named_parameters()]

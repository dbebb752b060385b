"""Compares the number of images per optimizer step with the number the learning rate was tuned for."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS


@HOOKS.register_module()
class EffectiveBatchHook(Hook):
    """Logs both numbers before training and, if they differ, what to change.

    The batch size that a config was tuned for is its ``auto_scale_lr.base_batch_size``.
    """

    def before_train(self, runner: Runner) -> None:
        images, steps = images_per_process(runner), accumulated_steps(runner)
        chosen = runner.cfg.get('auto_scale_lr') or {}
        optimizer = runner.optim_wrapper.optimizer
        # DeepSpeed puts the optimizer of the config into one of its own.
        rate = getattr(optimizer, 'optimizer', optimizer).defaults['lr']
        tuned = chosen.get('base_batch_size')
        text = describe(images, get_world_size(), steps, tuned, rate)
        if chosen.get('enable'):
            text += (
                '. auto_scale_lr.enable=True has scaled the rate in proportion to the batch; '
                'tools/train.py --auto-scale-lr does it by the square root'
            )
        runner.logger.log(logging.WARNING if ';' in text else logging.INFO, text)


def images_per_process(runner: Runner) -> int:
    """Number of images in a batch of one process, before or after the loader is built."""
    loader = runner.train_dataloader
    if isinstance(loader, Mapping):
        return loader['batch_size']
    # If the config has a batch sampler (AspectRatioBatchSampler), the loader has no batch size.
    return loader.batch_size or loader.batch_sampler.batch_size


def accumulated_steps(runner: Runner) -> int:
    """Number of steps whose gradients are summed, before or after the optimizer wrapper is built."""
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, Mapping):
        return wrapper.get('accumulative_counts', 1)
    return getattr(wrapper, '_accumulative_counts', 1)


def describe(images: int, gpus: int, steps: int, tuned: int | None, rate: float) -> str:
    """Describe the effective batch; a semicolon and advice follow if something should be changed.

    Args:
        images: number of images per GPU and step.
        gpus: number of processes of the run.
        steps: number of steps whose gradients are accumulated.
        tuned: the effective batch that ``rate`` was chosen for.
        rate: the learning rate of the config.
    """
    total = images * gpus * steps
    text = f'effective batch = {images} per GPU x {gpus} GPUs x {steps} accumulated = {total}'
    if tuned is None:
        return f'{text} (the config does not state the batch that its learning rate was tuned for)'
    text += f', the config was tuned for {tuned}'
    if total == tuned:
        return text
    remedies = []
    needed = round(tuned / (images * gpus))
    if needed not in (0, steps):
        remedies.append(f'optim_wrapper.accumulative_counts={needed}')
    remedies.append(f'optim_wrapper.optimizer.lr={scaled_rate(rate, total, tuned):.2g}')
    return f'{text}; set {" or ".join(remedies)}'


def scaled_rate(rate: float, total: int, tuned: int) -> float:
    """The learning rate for ``total`` images per step.

    With Adam it is proportional to the square root of the batch (Malladi et al., arXiv:2205.10287).
    """
    return rate * math.sqrt(total / tuned)

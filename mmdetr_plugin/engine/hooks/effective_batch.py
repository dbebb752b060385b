"""How many images a step of the optimizer sees, against how many its learning rate was chosen for."""

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
    """Says it before training, and what to change where the two differ.

    The number that a config was chosen for is its ``auto_scale_lr.base_batch_size``.
    """

    def before_train(self, runner: Runner) -> None:
        images, steps = images_per_process(runner), accumulated_steps(runner)
        chosen = runner.cfg.get('auto_scale_lr') or {}
        rate = runner.optim_wrapper.optimizer.defaults['lr']
        tuned = chosen.get('base_batch_size')
        text = describe(images, get_world_size(), steps, tuned, rate)
        if chosen.get('enable'):
            text += (
                '. auto_scale_lr.enable=True has scaled the rate in proportion to the batch; '
                'tools/train.py --auto-scale-lr does it by the square root'
            )
        runner.logger.log(logging.WARNING if ';' in text else logging.INFO, text)


def images_per_process(runner: Runner) -> int:
    """Images in a batch of one process, before or after the loader is built."""
    loader = runner.train_dataloader
    if isinstance(loader, Mapping):
        return loader['batch_size']
    # A config's own batch sampler, AspectRatioBatchSampler for one, takes the loader's place.
    return loader.batch_size or loader.batch_sampler.batch_size


def accumulated_steps(runner: Runner) -> int:
    """Steps whose gradients are added up, before or after the wrapper of the optimizer is built."""
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, Mapping):
        return wrapper.get('accumulative_counts', 1)
    return getattr(wrapper, '_accumulative_counts', 1)


def describe(images: int, gpus: int, steps: int, tuned: int | None, rate: float) -> str:
    """The effective batch in words; after a semicolon what to change, if anything.

    Args:
        images: per GPU and step.
        gpus: processes of the run.
        steps: whose gradients are accumulated.
        tuned: the effective batch that ``rate`` was chosen for.
        rate: the learning rate of the config.
    """
    total = images * gpus * steps
    text = f'effective batch = {images} per GPU x {gpus} GPUs x {steps} accumulated = {total}'
    if tuned is None:
        return f'{text} (the config does not say for how many its learning rate was chosen)'
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
    """The rate for ``total`` images a step: Adam's goes with the square root of the batch, not with
    the batch (Malladi et al., arXiv:2205.10287)."""
    return rate * math.sqrt(total / tuned)

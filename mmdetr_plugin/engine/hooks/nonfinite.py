"""Counts and logs training steps that were skipped because they were not finite."""

from __future__ import annotations

import logging
import math

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS

SHOWN = 4


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Logs the terms and images of steps that ``FiniteOptimWrapper`` skipped; ends a run of them.

    The numbers of skipped steps are in the message hub, under ``skipped_steps`` and
    ``skipped_in_a_row``, so a resumed run continues to count.

    Args:
        most: if more steps in a row are skipped, FloatingPointError is raised in all processes.
    """

    priority = 'VERY_HIGH'

    def __init__(self, most: int = 50) -> None:
        self.most = most

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        hub = runner.message_hub
        in_a_row = hub.runtime_info.get('skipped_in_a_row', 0)
        if not getattr(runner.optim_wrapper, 'skipped', False):
            if in_a_row:
                hub.update_info('skipped_in_a_row', 0)
            return
        total = hub.runtime_info.get('skipped_steps', 0) + 1
        hub.update_info('skipped_steps', total)
        hub.update_info('skipped_in_a_row', in_a_row + 1)
        found = all_gather_object((wrong_terms(outputs or {}), image_names(data_batch or {})))
        terms = sorted({term for each, _ in found for term in each})
        images = [name for each, names in found for name in names if each or not terms]
        text = (
            f'step {runner.iter + 1} was skipped, as '
            f'{", ".join(terms[:SHOWN]) or "the norm of the gradient"} is not finite; images: '
            f'{", ".join(images[:SHOWN])}{", ..." if len(images) > SHOWN else ""} '
            f'({total} steps skipped so far, {in_a_row + 1} in a row)'
        )
        if in_a_row + 1 > self.most:
            raise FloatingPointError(
                f'at most {self.most} steps in a row may be skipped: {text}; lower the learning rate, '
                'train without fp16 (--amp), or look at these images and their boxes. Weights are '
                'as before these steps'
            )
        runner.logger.log(logging.WARNING, text)


def wrong_terms(outputs: dict) -> list[str]:
    """Names of the logged values that are not finite, without their sum if there are others."""
    values = {
        name: value.detach().float().mean().item() if isinstance(value, torch.Tensor) else value
        for name, value in outputs.items()
    }
    wrong = [n for n, v in values.items() if isinstance(v, float) and not math.isfinite(v)]
    return [name for name in wrong if name != 'loss'] or wrong


def image_names(data_batch: dict) -> list[str]:
    samples = data_batch.get('data_samples') or []
    return [str(getattr(s, 'img_path', None) or getattr(s, 'img_id', '?')) for s in samples]

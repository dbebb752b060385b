"""Changes of whole batches for a part of the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from ...registry import HOOKS, MODELS


@HOOKS.register_module()
class BatchAugmentHook(Hook):
    """Adds an entry to ``batch_augments`` of the data preprocessor for some epochs.

    The model's config then says nothing of the schedule, and the last epochs can see pictures as they
    are when detecting.

    Args:
        augment: config of the entry, e.g. of ``BatchRandomResize``.
        begin, end: the first epoch with it, and the first without it again; None = to the end.
    """

    priority = 'VERY_LOW'

    def __init__(self, augment: Mapping[str, Any], begin: int = 0, end: int | None = None) -> None:
        self.augment: nn.Module = MODELS.build(dict(augment))
        self.begin, self.end = begin, end

    def before_train_epoch(self, runner: Runner) -> None:
        self.switch(runner, self.begin <= runner.epoch < (self.end or runner.max_epochs))

    def after_train(self, runner: Runner) -> None:
        self.switch(runner, False)

    def switch(self, runner: Runner, active: bool) -> None:
        """Put the entry at the end of ``batch_augments``, or take it out."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        present: Any = model.data_preprocessor.batch_augments
        others = [augment for augment in present or () if augment is not self.augment]
        entries = [*others, self.augment] if active else others
        model.data_preprocessor.batch_augments = nn.ModuleList(entries)

"""Another matching from an epoch on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ...criterion.assigner import Assigner
from ...criterion.set_criterion import build_assigner
from ...registry import HOOKS


@HOOKS.register_module()
class AssignerSwitchHook(Hook):
    """Matches queries and objects by another assigner from epoch ``begin`` on (DEIMv2's training).

    Branches with an assigner of their own keep it.

    Args:
        assigner: its config.
        begin: the first epoch with it.
    """

    def __init__(self, assigner: Mapping[str, Any], begin: int) -> None:
        self.later: Assigner = build_assigner(assigner)
        self.begin = begin
        self.first: Assigner | None = None

    def before_train(self, runner: Runner) -> None:
        self.first = self._criterion(runner).assigner

    def before_train_epoch(self, runner: Runner) -> None:
        self._use(runner, self.later if runner.epoch >= self.begin else self.first)

    def after_train(self, runner: Runner) -> None:
        self._use(runner, self.first)

    def _use(self, runner: Runner, assigner: Assigner | None) -> None:
        criterion = self._criterion(runner)
        for part in (criterion, *criterion.branches.values()):
            if part.assigner in (self.first, self.later):
                part.assigner = assigner

    @staticmethod
    def _criterion(runner: Runner) -> Any:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        return model.criterion

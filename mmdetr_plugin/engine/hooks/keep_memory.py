"""Keeps freed memory for the next step."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS
from ..freed_memory import keep_freed_memory


@HOOKS.register_module()
class KeepMemoryHook(Hook):
    """Calls :func:`~mmdetr_plugin.engine.freed_memory.keep_freed_memory` before a run."""

    def before_run(self, runner: Runner) -> None:
        keep_freed_memory()

"""Keeps torch's number of threads to the processors that other processes leave free."""

from __future__ import annotations

import os

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS
from ..threads import SharedThreads


@HOOKS.register_module()
class SharedThreadsHook(Hook):
    """Computes with fewer threads while the processors are busy with other work, and logs it.

    The number stays as it is

    * if ``OMP_NUM_THREADS`` is set, or ``randomness.deterministic``: sums are rounded differently with
      another number of threads;
    * if the model is compiled, which is done for one number;
    * on a GPU.

    Args:
        interval: seconds between two looks at the load.
    """

    def __init__(self, interval: float = 2.0) -> None:
        self.interval = interval
        self.threads: SharedThreads | None = None

    def before_run(self, runner: Runner) -> None:
        fixed = (
            'OMP_NUM_THREADS' in os.environ
            or torch.cuda.is_available()
            or torch.are_deterministic_algorithms_enabled()
            or (runner.cfg.get('model') or {}).get('compile') is not None
        )
        self.threads = None if fixed else SharedThreads(self.interval)

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: object = None,
        mode: str = 'train',
    ) -> None:
        share = self.threads.adapt() if self.threads else None
        if share is not None:
            runner.logger.info(
                f'{torch.get_num_threads()} threads from here: they ran for {100 * share:.0f} % of the '
                'time in which they could have run'
            )

    def after_run(self, runner: Runner) -> None:
        if self.threads:
            torch.set_num_threads(self.threads.most)

"""A training of two processes, in which one may raise an error, or die.

torchrun --nproc_per_node=2 tests/rank_run.py DATA WORK_DIR {raise,die,none}
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

import conftest  # noqa: F401 - one thread
import tiny_run
from mmengine.runner import Runner

import mmdetr_plugin.engine.command_line as command_line


def fault(kind: str) -> tiny_run.BeforeStep:
    """In the second epoch of process 1, unless torchrun has restarted the processes."""

    def act(runner: Runner, batch: dict) -> None:
        if (runner.rank, runner.iter, os.environ['TORCHELASTIC_RESTART_COUNT']) != (1, 2, '0'):
            return
        if kind == 'die':
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == 'raise':
            raise OSError('the disk of this process is gone')

    return tiny_run.BeforeStep(act)


def main(data: Path, work_dir: Path, kind: str) -> None:
    cfg = tiny_run.config(data, work_dir, epochs=2)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.batch_size = 2
    cfg.launcher = 'pytorch'
    cfg.env_cfg.dist_cfg = {'backend': 'gloo', 'timeout': 300}
    command_line.set_resume(argparse.ArgumentParser(), cfg, 'auto')
    runner = command_line.build_runner(argparse.ArgumentParser(), cfg)
    runner.register_hook(fault(kind))
    runner.train()
    command_line.end_processes()


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

"""One training of two processes whose optimizer states are sharded (ZeRO of DeepSpeed), on the CPU.

torchrun --nproc_per_node=2 tests/zero_run.py DATA WORK_DIR STAGE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import conftest  # noqa: F401 - one thread
import tiny_run
import torch
from mmengine._strategy.deepspeed import DeepSpeedOptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

import mmdetr_plugin.engine.command_line as command_line


@OPTIM_WRAPPERS.register_module()
class GlooOptimWrapper(DeepSpeedOptimWrapper):
    """Gathers the weights without gradients: gloo (torch 2.13) writes into views of them."""

    @torch.no_grad()
    def step(self, **kwargs: object) -> None:
        super().step(**kwargs)


def main(data: Path, work_dir: Path, stage: int) -> None:
    cfg = tiny_run.config(data, work_dir, epochs=1)
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'] != 'EMAHook']
    cfg.launcher = 'pytorch'
    cfg.env_cfg = {'dist_cfg': {'backend': 'gloo'}}
    cfg.runner_type = 'FlexibleRunner'
    cfg.optim_wrapper.type = 'GlooOptimWrapper'
    cfg.strategy = {
        'type': 'DeepSpeedStrategy',
        'config': {'zero_allow_untested_optimizer': True},
        'zero_optimization': {'stage': stage},
        'gradient_clipping': cfg.optim_wrapper.pop('clip_grad').max_norm,
        'train_micro_batch_size_per_gpu': cfg.train_dataloader.batch_size,
    }
    runner = command_line.build_runner(argparse.ArgumentParser(), cfg)
    runner.train()
    kind = 'fp32_partitioned_groups_flat' if stage == 3 else 'single_partition_of_fp32_groups'
    own = sum(part.numel() for part in getattr(runner.optim_wrapper.optimizer, kind))
    norm = float(runner.model.get_global_grad_norm())
    print(f'process {runner.rank} updates {own}; norm {norm:.6g}', flush=True)
    command_line.end_processes()


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

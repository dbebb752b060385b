"""One training of two processes whose weights are sharded (FSDP), on the CPU.

torchrun --nproc_per_node=2 tests/sharded_run.py DATA WORK_DIR [CONFIG]

The model is that of the config at its full size, or a small one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import conftest  # noqa: F401 - one thread
import tiny_run

import mmdetr_plugin.engine.command_line as command_line


def main(data: Path, work_dir: Path, name: str = '') -> None:
    cfg = tiny_run.config(data, work_dir, epochs=1)
    if name:
        cfg.model = tiny_run.full_size(name)
        cfg.model.backbone.with_cp = False  # it is re-entrant
        cfg.model.encoder.with_cp = cfg.model.decoder.with_cp = True
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'] != 'EMAHook']
    cfg.launcher = 'pytorch'
    cfg.env_cfg = {'dist_cfg': {'backend': 'gloo'}}
    cfg.runner_type = 'FlexibleRunner'
    cfg.strategy = {
        'type': 'FSDPStrategy',
        'state_dict_cfg': {
            'state_dict_type': 'FULL_STATE_DICT',
            'state_dict_config': {'type': 'FullStateDictConfig', 'rank0_only': True},
            'optim_state_dict_config': {'type': 'FullOptimStateDictConfig', 'rank0_only': True},
        },
        'model_wrapper': {'type': 'MMFullyShardedDataParallel', 'device_id': 'cpu'},
    }
    runner = command_line.build_runner(argparse.ArgumentParser(), cfg)
    runner.train()
    own = sum(p.numel() for p in runner.model.parameters())
    norm = runner.message_hub.get_scalar('train/grad_norm').current()
    print(f'process {runner.rank} holds {own} parameters; norm {norm:.6g}', flush=True)
    command_line.end_processes()


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])

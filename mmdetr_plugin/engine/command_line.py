"""Command-line arguments and set-up shared by `tools/train.py`, `tools/test.py` and other tools."""

from __future__ import annotations

import argparse
import atexit
import difflib
import logging
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..arguments import SlotError
from ..checkpoints.files import read_checkpoint
from ..checkpoints.pretrained import fetch_nothing_
from ..checkpoints.resume import check_resumable, latest_checkpoint
from ..datasets.agreement import check_agreement
from ..datasets.annotations import files_kept
from ..datasets.completion import complete
from ..datasets.presence import check_presence
from ..datasets.validation import validate
from .hooks.effective_batch import accumulated_steps, images_per_process, scaled_rate
from .optim_wrapper import BFloat16OptimWrapper, FiniteAmpOptimWrapper
from .project import project_root

PRECISIONS = ('fp16', 'bf16')


def make_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the arguments that training and testing share, with mmdet's names."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--work-dir', help='folder for logs and results (work_dirs/<config name>)')
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='what started the processes of a distributed run',
    )
    # torch.distributed.launch, which mim uses, still passes the rank as an argument.
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
    return parser


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='replace values of the config, e.g. model.num_classes=3 '
        'optim_wrapper.optimizer.lr=1e-4 "some.list=[1,2]"',
    )


def spell_out_amp(argv: Sequence[str]) -> list[str]:
    """Write `--amp` without a precision as `--amp=auto`, so that argparse does not take the config."""
    spelled = []
    for word, following in zip(argv, [*argv[1:], '']):
        bare = word == '--amp' and following not in PRECISIONS
        spelled.append('--amp=auto' if bare else word)
    return spelled


def load_config(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Config:
    """Read the config and apply the shared arguments; ends the program if the file is missing."""
    if args.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(parser, args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    return cfg


def read_config(
    parser: argparse.ArgumentParser, config: str, options: dict[str, Any] | None = None
) -> Config:
    """Read a config and replace values; ends the program if the file is missing."""
    path = Path(config)
    if not path.is_file():
        near = difflib.get_close_matches(path.stem, _known_configs(path), n=3)
        hint = f'did you mean {" or ".join(near)}?' if near else 'check the path'
        parser.error(f'config must be a file, got {config}; {hint}')
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options or {})
    return cfg


def _known_configs(path: Path) -> list[str]:
    folders = (path.parent, project_root() / 'configs')
    return sorted({file.stem for folder in folders for file in folder.glob('*.py')})


def set_resume(parser: argparse.ArgumentParser, cfg: Config, checkpoint: str) -> None:
    """Resume from a checkpoint, or with `auto` from the latest one in the work dir, if any.

    `auto` skips damaged files. Ends the program if a named file is damaged or cannot be resumed.
    """
    cfg.resume = True
    try:
        if checkpoint != 'auto':
            if '://' not in checkpoint:
                check_resumable(checkpoint)
            cfg.load_from = checkpoint
            return
        latest, faults = latest_checkpoint(cfg.work_dir)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    for fault in faults:
        print_log(f'Not resumed from: {fault}', 'current', logging.WARNING)
    if latest is None:  # start from the beginning, with the weights of load_from if given
        cfg.resume = False
    else:
        cfg.load_from = str(latest)


def build_runner(parser: argparse.ArgumentParser, cfg: Config, *splits: str) -> Runner:
    """Build the runner of a config; on CPUs, also connect its processes, which MMEngine cannot.

    Ends the program if a data set of ``splits`` is missing or disagrees with the config, if the
    checkpoint cannot be read, or if the model cannot be built.
    """
    try:
        check_presence(cfg, splits)
        _check_weights(cfg)
        with files_kept():
            complete(cfg)
            _skip_overwritten(cfg)
            check_agreement(cfg, splits)
            validate(cfg, splits)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        _connect_cpu_processes(cfg)
    try:
        return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    except SlotError as error:
        parser.error(str(error))


def _check_weights(cfg: Config) -> None:
    """Raise a readable error if `load_from` names a local file that cannot be loaded."""
    file = cfg.get('load_from')
    if file and '://' not in file and not cfg.get('resume'):
        read_checkpoint(Path(file).expanduser())


def _skip_overwritten(cfg: Config) -> None:
    """Do not fetch weights of the backbone that those of `load_from` would overwrite.

    Our detector needs every weight of the backbone in that file; other detectors may not.
    """
    model = cfg.get('model') or {}
    kind = model.get('type')
    ours = isinstance(kind, str) and kind.split('.')[-1] == 'DETR' and 'criterion' in model
    if ours and cfg.get('load_from') and not cfg.get('resume') and model.get('backbone'):
        fetch_nothing_(model['backbone'])


def _connect_cpu_processes(cfg: Config) -> None:
    """Do what MMEngine's launcher and model wrapper do, but without a CUDA device."""
    seconds = (cfg.get('env_cfg', {}).get('dist_cfg') or {}).get('timeout')
    timeout = None if seconds is None else timedelta(seconds=seconds)
    torch.distributed.init_process_group('gloo', timeout=timeout)
    wrapper = cfg.get('model_wrapper_cfg') or {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }
    cfg.model_wrapper_cfg = {**wrapper, 'device_ids': None}


def end_processes() -> None:
    """Close the connection of all processes; where it is gloo's, this process ends here.

    Threads of a closed gloo connection live on under a distributed model. One that asks for the
    interpreter's lock while the interpreter is taken down aborts the process ("terminate called
    without an active exception"), so what is to be done at exit is done and nothing is taken down.
    """
    if not torch.distributed.is_initialized():
        return
    gloo = torch.distributed.get_backend() == 'gloo'
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    if gloo:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def set_precision(parser: argparse.ArgumentParser, cfg: Config, precision: str) -> None:
    """Train under autocast: `fp16`, `bf16`, or `auto` (fp16 on a GPU, bf16 elsewhere)."""
    gpu = torch.cuda.is_available()
    if precision == 'auto':
        precision = 'fp16' if gpu else 'bf16'
    if precision == 'fp16' and not gpu:
        parser.error('--amp fp16 needs a GPU, none is available; use --amp bf16')
    if precision == 'fp16':
        kind = {
            'type': f'mmdetr_plugin.{FiniteAmpOptimWrapper.__name__}',
            'loss_scale': 'dynamic',
            'dtype': 'float16',
        }
    else:
        kind = {'type': f'mmdetr_plugin.{BFloat16OptimWrapper.__name__}'}
    cfg.optim_wrapper.merge(kind)


def scale_learning_rate(parser: argparse.ArgumentParser, runner: Runner) -> None:
    """Multiply the learning rate by sqrt(actual batch / batch that the config was tuned for).

    MMEngine's own scaling is proportional to the batch, which suits SGD, and ignores accumulation.
    """
    tuned = (runner.cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if tuned is None:
        parser.error(
            '--auto-scale-lr needs the batch size that the learning rate was chosen for, and the '
            'config states none; add auto_scale_lr = dict(base_batch_size=N) to it'
        )
    total = images_per_process(runner) * runner.world_size * accumulated_steps(runner)
    optimizer = runner.optim_wrapper['optimizer']
    rate = scaled_rate(optimizer['lr'], total, tuned)
    print_log(
        f'learning rate {optimizer["lr"]:g} for {tuned} images scaled to {rate:.3g} for {total}',
        'current',
    )
    optimizer['lr'] = rate
    runner.cfg.auto_scale_lr.base_batch_size = total  # the rate now fits this batch size

#!/usr/bin/env python3
"""Train one model of every family with mixed precision: losses stay finite and fall.

    python tools/benchmarks/amp.py --json amp.json
    python tools/benchmarks/amp.py detr_r50 dino_r50 --precision bf16 --json amp.json

The models have the size of the demo and learn the digits set, as in convergence.py. A run is good if
each loss is finite and the mean of the last tenth is below that of the first. The exit code is 1 if
one is not. What the JSON file has from an earlier call is not trained again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import yaml
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.engine.command_line import set_precision
from mmdetr_plugin.testing import project_root, quiet, write_json
from mmdetr_plugin.testing.benchmark import machine
from mmdetr_plugin.testing.digits_training import DigitsTraining

ROOT = project_root()
PRECISIONS = ('fp16', 'bf16')
LEFT_OUT = ('Digits', 'Mixes')
"""Collections of the model index that are no family."""
BATCH, WARMUP = 8, 50


class Losses(Hook):
    """Keeps the loss of every step, and counts those that the optimizer skipped."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.skipped = 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        self.losses.append(float((outputs or {})['loss']))
        self.skipped += bool(getattr(runner.optim_wrapper, 'skipped', False))


def families() -> list[str]:
    """The config with the shortest name of each family in the model index."""
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    names: dict[str, list[str]] = {}
    for model in index['Models']:
        names.setdefault(model['In Collection'], []).append(Path(model['Config']).stem)
    chosen = (
        min(group, key=lambda n: (len(n), n)) for f, group in names.items() if f not in LEFT_OUT
    )
    return sorted(chosen)


def configured(name: str, precision: str, args: argparse.Namespace) -> Config:
    """The training of one small model: an epoch with as many images as the steps need."""
    training = DigitsTraining(
        data=args.data,
        work_dir=args.work_dir,
        epochs=1,
        interval=1,
        images=BATCH * args.steps,
        size=160,
        lr=6e-4,
        seed=0,
        workers=args.workers,
    )
    cfg = training.config(name)
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.train_cfg = ConfigDict(type='EpochBasedTrainLoop', max_epochs=1)
    cfg.param_scheduler[0].end = min(WARMUP, args.steps)
    cfg.default_hooks.checkpoint = None
    cfg.resume = False
    cfg.experiment_name = f'{name}_{precision}'
    set_precision(argparse.ArgumentParser(), cfg, precision)
    return cfg


def train(name: str, precision: str, args: argparse.Namespace) -> dict[str, Any]:
    """Losses, seconds and the verdict of one training."""
    hook = Losses()
    with (args.work_dir / 'amp.log').open('a') as log, quiet(log):
        runner = Runner.from_cfg(configured(name, precision, args))
        runner.register_hook(hook)
        begun = time.perf_counter()
        runner.train()
    seconds = time.perf_counter() - begun
    tenth = max(len(hook.losses) // 10, 1)
    first, last = mean(hook.losses[:tenth]), mean(hook.losses[-tenth:])
    finite = all(map(math.isfinite, hook.losses))
    return {
        'steps': len(hook.losses),
        'first': first,
        'last': last,
        'skipped': hook.skipped,
        'ms': 1e3 * seconds / len(hook.losses),
        'finite': finite,
        'good': finite and last < first,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument('names', nargs='*', metavar='NAME', help='configs (default: one a family)')
    parser.add_argument(
        '--precision', nargs='+', choices=PRECISIONS, help='default: bf16, on a GPU both'
    )
    parser.add_argument('--steps', type=int, default=200)
    parser.add_argument('--workers', type=int, help='loading processes (default: the config)')
    parser.add_argument('--json', type=Path, required=True, metavar='FILE', help='of the figures')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/amp')
    parser.add_argument('--data', type=Path, default=ROOT / 'data/digits', help='the digits set')
    parser.add_argument('--num-train', type=int, default=5000, help='digits images to make')
    parser.add_argument('--num-val', type=int, default=200, help='digits images to make')
    args = parser.parse_args(argv)
    if not 1 <= args.steps <= args.num_train // BATCH:
        parser.error(
            f'--steps must be 1 to {args.num_train // BATCH}, as a batch has {BATCH} of the '
            f'{args.num_train} images, got {args.steps}; change it or --num-train'
        )
    gpu = torch.cuda.is_available()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    make_digits(args.data, num_train=args.num_train, num_val=args.num_val)
    runs = json.loads(args.json.read_text())['runs'] if args.json.is_file() else {}
    described = machine('cuda' if gpu else 'cpu')
    precisions = args.precision or (PRECISIONS if gpu else ['bf16'])
    for name, precision in itertools.product(args.names or families(), precisions):
        if precision not in runs.setdefault(name, {}):
            run = runs[name][precision] = train(name, precision, args)
            write_json(args.json, {'machine': described, 'runs': runs})
            verdict = 'good' if run['good'] else 'does not fall' if run['finite'] else 'not finite'
            print(
                f'{name}, {precision}: {run["first"]:.2f} to {run["last"]:.2f}, {verdict}',
                flush=True,
            )
    return 0 if all(run['good'] for both in runs.values() for run in both.values()) else 1


if __name__ == '__main__':
    sys.exit(main())

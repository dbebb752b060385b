#!/usr/bin/env python3
"""Fine-tuning on new classes against training from scratch: AP at equal steps on the digits set.

    python tools/benchmarks/finetune.py --minutes 8      # repeat until it is complete

A model learns the digits 0 to 4; the other digits in its pictures are not annotated. Then the digits
5 to 9 are learnt twice with equal settings: from that checkpoint and from scratch. Model, augmentation
and schedule are the demo's, on smaller pictures. Every evaluation is added to curves.json, and
table.md is written again. An interrupted run continues after its last complete epoch.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

if 'OMP_WAIT_POLICY' not in os.environ:  # read when torch is loaded: docs/training.md
    os.environ.setdefault('GOMP_SPINCOUNT', '20000')

from mmengine.config import Config
from mmengine.runner import Runner, find_latest_checkpoint

from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.testing import project_root, quiet
from mmdetr_plugin.testing.curves import Curve, Curves, Point, Record
from mmdetr_plugin.testing.digits_training import DigitsTraining

ROOT = project_root()
CONFIG = 'deformable_detr_two_stage_r50'
CLASSES = {'source': '01234', 'fine-tuned': '56789', 'from scratch': '56789'}
WARM_UP = 50


def settings(args: argparse.Namespace) -> dict[str, float]:
    keys = ('source_epochs', 'epochs', 'images', 'size', 'lr', 'seed')
    return {key: getattr(args, key) for key in keys}


def length(run: str, args: argparse.Namespace) -> int:
    """How many epochs a run takes."""
    return args.source_epochs if run == 'source' else args.epochs


def make_config(run: str, args: argparse.Namespace) -> Config:
    """The config of a run on its classes; it resumes from the last checkpoint, if there is one."""
    epochs = length(run, args)
    keys = ('data', 'work_dir', 'images', 'size', 'lr', 'seed', 'workers')
    common = {key: getattr(args, key) for key in keys}
    interval = min(epochs, 4) if run == 'source' else 1
    cfg = DigitsTraining(epochs=epochs, interval=interval, **common).config(CONFIG)
    cfg.param_scheduler[0].end = WARM_UP
    cfg.work_dir = str(args.work_dir / run.replace(' ', '_'))
    cfg.model.num_classes = len(CLASSES[run])
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.metainfo = {'classes': tuple(CLASSES[run])}
    cfg.resume = find_latest_checkpoint(cfg.work_dir) is not None
    if run == 'fine-tuned' and not cfg.resume:
        cfg.load_from = find_latest_checkpoint(str(args.work_dir / 'source'))
    return cfg


def train(run: str, args: argparse.Namespace, curves: Curves, deadline: float) -> bool:
    """Do one of the three runs; return False if the time was over before the last epoch."""
    if curves.reaches(run, length(run, args)):
        return True

    def save(point: Point) -> None:
        curves.add(run, point)
        (args.work_dir / 'table.md').write_text(table(curves.curves))
        print(f'{run}: epoch {point["epoch"]}, AP {point["ap"]:.3f}', file=sys.stderr, flush=True)

    hook = Record(save, deadline)
    with (args.work_dir / 'finetune.log').open('a') as log, quiet(log):
        runner = Runner.from_cfg(make_config(run, args))
        runner.register_hook(hook)
        runner.train()
    return not hook.out_of_time


def table(curves: Mapping[str, Curve]) -> str:
    """AP and AP50 of both runs after each epoch, in Markdown."""
    tuned, scratch = (
        {
            point['epoch']: f'{point["ap"]:.3f} ({point["ap50"]:.3f})'
            for point in curves.get(run, [])
        }
        for run in ('fine-tuned', 'from scratch')
    )
    rows = ['| epoch | fine-tuned, AP (AP50) | from scratch |', '|---|---|---|']
    rows += [f'| {n} | {tuned.get(n, "-")} | {scratch.get(n, "-")} |' for n in {**tuned, **scratch}]
    return '\n'.join(rows) + '\n'


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--source-epochs', type=int, default=8)
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--images', type=int, default=400, help='training images per epoch')
    parser.add_argument('--size', type=int, default=96, help='side of the pictures in pixels')
    parser.add_argument('--lr', type=float, default=6e-4)
    parser.add_argument('--minutes', type=float, help='stop cleanly before this time has passed')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, default=0, help='loading processes')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/finetune')
    parser.add_argument('--data', type=Path, default=ROOT / 'data/digits', help='the digits set')
    args = parser.parse_args(argv)
    deadline = time.time() + 60 * args.minutes if args.minutes else float('inf')
    args.work_dir.mkdir(parents=True, exist_ok=True)
    if not args.data.exists():
        make_digits(args.data)
    try:
        curves = Curves(args.work_dir / 'curves.json', settings(args))
    except ValueError as error:
        parser.error(str(error))
    for run in CLASSES:
        if time.time() >= deadline or not train(run, args, curves, deadline):
            print('time is up: run the command again to continue')
            return 0
    print((args.work_dir / 'table.md').read_text(), end='')
    return 0


if __name__ == '__main__':
    sys.exit(main())

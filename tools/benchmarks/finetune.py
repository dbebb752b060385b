#!/usr/bin/env python3
"""Fine-tuning on new classes against training from scratch: AP at equal steps on the digits set.

    python tools/benchmarks/finetune.py --minutes 8      # again and again, until it is complete

A model learns the digits 0 to 4, the others unmarked in its pictures. Then the digits 5 to 9 are
learnt twice, alike but for `load_from`: from that checkpoint and from scratch. Model, augmentation
and schedule are the demo's, on smaller pictures. Every evaluation is added to curves.json, and
table.md is made anew; a run that was interrupted goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from convergence import Curve, Record, prepare, read_curves
from demo import quiet
from mmengine.config import Config
from mmengine.runner import Runner, find_latest_checkpoint
from overfit import write_json
from small import ROOT

from mmdetr_plugin.datasets import make_digits

CONFIG = 'deformable_detr_two_stage_r50'
CLASSES = {'source': '01234', 'fine-tuned': '56789', 'from scratch': '56789'}
WARM_UP = 50


def settings(args: argparse.Namespace) -> dict[str, float]:
    keys = ('source_epochs', 'epochs', 'images', 'size', 'lr', 'seed')
    return {key: getattr(args, key) for key in keys}


def make_config(run: str, args: argparse.Namespace) -> Config:
    """The demo on the classes of ``run``; goes on from its last checkpoint, if there is one."""
    epochs = args.source_epochs if run == 'source' else args.epochs
    interval = min(epochs, 4) if run == 'source' else 1
    common = {'epochs': epochs, 'interval': interval, 'pretrain': 0}
    cfg = prepare(CONFIG, argparse.Namespace(**{**vars(args), **common}))
    cfg.param_scheduler[0].end = WARM_UP
    cfg.work_dir = str(args.work_dir / run.replace(' ', '_'))
    cfg.model.num_classes = len(CLASSES[run])
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.metainfo = {'classes': tuple(CLASSES[run])}
    cfg.resume = find_latest_checkpoint(cfg.work_dir) is not None
    if run == 'fine-tuned' and not cfg.resume:
        cfg.load_from = find_latest_checkpoint(str(args.work_dir / 'source'))
    return cfg


def train(run: str, args: argparse.Namespace, content: dict, deadline: float) -> bool:
    """Train one of the three to its end, False if the time did not suffice."""
    curve = content['curves'].setdefault(run, [])
    if curve and curve[-1]['epoch'] >= (args.source_epochs if run == 'source' else args.epochs):
        return True

    def save(point: dict[str, float]) -> None:
        curve[:] = [old for old in curve if old['epoch'] < point['epoch']] + [point]
        write_json(args.work_dir / 'curves.json', content)
        (args.work_dir / 'table.md').write_text(table(content['curves']))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--source-epochs', type=int, default=8)
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--images', type=int, default=400, help='training images per epoch')
    parser.add_argument('--size', type=int, default=96, help='side of the pictures in pixels')
    parser.add_argument('--lr', type=float, default=6e-4)
    parser.add_argument('--minutes', type=float, help='stop cleanly before so many have passed')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, default=0, help='loading processes')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/finetune')
    parser.add_argument('--data', type=Path, default=ROOT / 'data/digits', help='the digits set')
    args = parser.parse_args()
    deadline = time.time() + 60 * args.minutes if args.minutes else float('inf')
    args.work_dir.mkdir(parents=True, exist_ok=True)
    if not args.data.exists():
        make_digits(args.data)
    try:
        content = read_curves(args.work_dir / 'curves.json', settings(args))
    except ValueError as error:
        parser.error(str(error))
    for run in CLASSES:
        if time.time() >= deadline or not train(run, args, content, deadline):
            print('time is up: call it again to go on')
            return
    print((args.work_dir / 'table.md').read_text(), end='')


if __name__ == '__main__':
    main()

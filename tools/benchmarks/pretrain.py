#!/usr/bin/env python3
"""Pre-training without labels and its effect: UP-DETR in the demo's size on the embedded photographs.

    python tools/benchmarks/pretrain.py --minutes 12

The model learns to find random patches of the two photographs of the digits set. Then the digits are
learnt twice with equal settings: from that checkpoint and from scratch. The backbone learns to name
cut-out digits first and stays frozen, as the papers start from trained backbones. Every evaluation is
added to curves.json, and table.md is written again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if 'OMP_WAIT_POLICY' not in os.environ:  # read when torch is loaded: docs/training.md
    os.environ.setdefault('GOMP_SPINCOUNT', '20000')

import cv2
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner, find_latest_checkpoint

from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.datasets.digits.material import load_material
from mmdetr_plugin.engine.project import config_path
from mmdetr_plugin.testing import project_root, quiet, small
from mmdetr_plugin.testing.curves import Curves, Point, Record
from mmdetr_plugin.testing.digits_training import DigitsTraining, start_from
from mmdetr_plugin.testing.pretraining import pretrain

ROOT = project_root()
FINE_TUNED, PRETRAIN = 'up_detr_r50', 'up_detr_pretrain_r50'
RUNS = ('pre-trained', 'from scratch')


def write_photographs(folder: Path) -> None:
    """The photographs that the digits are drawn on, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, photo in enumerate(load_material().photos):
        cv2.imwrite(str(folder / f'{i}.png'), photo[..., ::-1])


def training(args: argparse.Namespace) -> DigitsTraining:
    keys = ('data', 'work_dir', 'epochs', 'images', 'size', 'lr', 'seed')
    common = {key: getattr(args, key) for key in keys}
    backbone = args.work_dir / 'backbone.pth'
    return DigitsTraining(interval=1, workers=0, backbone=backbone, **common)


def make_backbone(args: argparse.Namespace) -> None:
    """Train the backbone that all runs share, if there is none yet."""
    path = args.work_dir / 'backbone.pth'
    if path.is_file():
        return
    model = small(Config.fromfile(config_path(FINE_TUNED))).model
    normalise = model.data_preprocessor
    pretrain({**model.backbone}, normalise, args.data, path, args.backbone_epochs, args.seed)


def pretraining(args: argparse.Namespace) -> Config:
    """The config of the run on photographs."""
    source = Config.fromfile(config_path(PRETRAIN))
    cfg = training(args).config(PRETRAIN)
    cfg.model = small(source).model
    start_from(cfg.model, args.work_dir / 'backbone.pth')
    cfg.model.update(num_classes=2, frozen_parts=('backbone',))
    write_photographs(args.work_dir / 'photographs')
    dataset = source.train_dataloader.dataset
    dataset.update(data_root=str(args.work_dir / 'photographs'), repeat=args.images // 2)
    for step in dataset.pipeline:
        if step['type'] == 'RandomChoiceResize':
            step['scales'] = [(side, 2 * side) for side in (args.size, args.size * 5 // 4)]
        elif step['type'].endswith('RandomPatches'):
            step['size'] = args.size // 2
    cfg.train_dataloader.dataset = dataset
    cfg.train_dataloader.pop('batch_sampler', None)
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.train_cfg = ConfigDict(type='EpochBasedTrainLoop', max_epochs=args.pretrain_epochs)
    cfg.param_scheduler[1].T_max = args.pretrain_epochs
    return cfg


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--pretrain-epochs', type=int, default=8)
    parser.add_argument('--backbone-epochs', type=int, default=2)
    parser.add_argument('--epochs', type=int, default=6, help='of learning the digits')
    parser.add_argument('--images', type=int, default=400, help='training images per epoch')
    parser.add_argument('--size', type=int, default=96, help='side of the pictures in pixels')
    parser.add_argument('--lr', type=float, default=6e-4)
    parser.add_argument('--minutes', type=float, help='stop cleanly before this time has passed')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/pretrain')
    parser.add_argument('--data', type=Path, default=ROOT / 'data/digits', help='the digits set')
    args = parser.parse_args(argv)
    deadline = time.time() + 60 * args.minutes if args.minutes else float('inf')
    args.work_dir.mkdir(parents=True, exist_ok=True)
    if not args.data.exists():
        make_digits(args.data)
    keys = ('pretrain_epochs', 'backbone_epochs', 'epochs', 'images', 'size', 'lr', 'seed')
    curves = Curves(args.work_dir / 'curves.json', {key: getattr(args, key) for key in keys})
    with (args.work_dir / 'pretrain.log').open('a') as log, quiet(log):
        make_backbone(args)
        cfg = pretraining(args)
        done = args.work_dir / PRETRAIN / f'epoch_{args.pretrain_epochs}.pth'
        if not done.is_file():
            Runner.from_cfg(cfg).train()
        for run in RUNS:
            if curves.reaches(run, args.epochs):
                continue

            def save(point: Point, run: str = run) -> None:
                curves.add(run, point)
                print(f'{run}: {point}', file=sys.stderr, flush=True)

            cfg = training(args).config(FINE_TUNED)
            cfg.work_dir = str(args.work_dir / run.replace(' ', '_'))
            cfg.resume = find_latest_checkpoint(cfg.work_dir) is not None
            if run == 'pre-trained' and not cfg.resume:
                cfg.load_from = str(done)
            runner = Runner.from_cfg(cfg)
            hook = Record(save, deadline)
            runner.register_hook(hook)
            runner.train()
            if hook.out_of_time:
                break
    rows = ['| epoch | pre-trained, AP (AP50) | from scratch |', '|---|---|---|']
    for epoch in range(1, args.epochs + 1):
        found = [next((p for p in curves.of(r) if p['epoch'] == epoch), None) for r in RUNS]
        cells = ['-' if p is None else f'{p["ap"]:.3f} ({p["ap50"]:.3f})' for p in found]
        rows.append(f'| {epoch} | {" | ".join(cells)} |')
    (args.work_dir / 'table.md').write_text('\n'.join(rows) + '\n')
    print('\n'.join(rows))
    return 0


if __name__ == '__main__':
    sys.exit(main())

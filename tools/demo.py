#!/usr/bin/env python3
"""Train a small detection transformer on bundled images, evaluate it and write a report about it.

make demo                    # about 10 minutes on 2 CPU cores
make demo ARGS=--resume      # continue an interrupted run
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

from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.datasets.digits.build import NUM_TRAIN
from mmdetr_plugin.engine.command_line import set_resume
from mmdetr_plugin.engine.project import project_root
from mmdetr_plugin.report import write_report
from mmdetr_plugin.testing import quiet, write_json
from mmdetr_plugin.testing.digits_training import demo_config
from mmdetr_plugin.visualization import draw_validation

ROOT = project_root()


class Progress(Hook):
    """A progress bar over all steps, with the loss and the remaining time."""

    priority = 'LOW'

    def before_train(self, runner: Runner) -> None:
        self.bar = tqdm(
            total=runner.max_iters,
            initial=runner.iter,
            unit='step',
            desc='training',
            smoothing=0.05,
        )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        if runner.iter % 10 == 0:
            epoch = f'{runner.epoch + 1}/{runner.max_epochs}'
            loss = f'{float((outputs or {})["loss"]):.2f}'
            self.bar.set_postfix(epoch=epoch, loss=loss, refresh=False)
        self.bar.update()

    def after_train(self, runner: Runner) -> None:
        self.bar.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default=str(ROOT / 'configs/digits_dino.py'))
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/demo')
    parser.add_argument('--data', type=Path, default=ROOT / 'data/digits')
    parser.add_argument('--resume', action='store_true', help='continue an interrupted run')
    parser.add_argument('--epochs', type=int, help='number of epochs (default: the config)')
    parser.add_argument('--num-train', type=int, default=NUM_TRAIN, help='training images to make')
    parser.add_argument('--num-val', type=int, default=200, help='validation images to make')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there too')
    args = parser.parse_args(argv)

    args.work_dir.mkdir(parents=True, exist_ok=True)
    log_path = args.work_dir / 'demo.log'
    log = log_path.open('a')
    fresh = make_digits(args.data, num_train=args.num_train, num_val=args.num_val)
    print(f'data     {_short(args.data)} ({"made" if fresh else "already there"})')
    with quiet(log):
        cfg = demo_config(args.config, args.data, args.work_dir, args.epochs)
        if args.resume:
            set_resume(parser, cfg, 'auto')
        runner = Runner.from_cfg(cfg)
        runner.register_hook(Progress())
    if args.resume:
        latest = (
            _short(Path(cfg.load_from))
            if cfg.resume
            else 'nothing to resume, starting from the beginning'
        )
        print(f'resume   {latest}')
    started = time.time()
    with quiet(log):
        runner.train()
        minutes = (time.time() - started) / 60
        metrics = runner.val()
    picture = args.work_dir / 'grid.png'
    draw_validation(runner, picture)
    weights = args.work_dir / f'epoch_{runner.epoch}.pth'
    with quiet(log):
        config = args.work_dir / Path(args.config).name
        page = write_report(args.work_dir, checkpoint=weights, config=config)
    size = sum(p.numel() for p in runner.model.parameters())
    print(f'model    {Path(args.config).stem}, {size / 1e6:.1f} M parameters')
    print(f'training {runner.iter} steps, {minutes:.1f} min')
    print(
        f'COCO AP  {metrics["coco/bbox_mAP"]:.3f}   '
        f'AP50 {metrics["coco/bbox_mAP_50"]:.3f}   AP75 {metrics["coco/bbox_mAP_75"]:.3f}'
    )
    print(f'picture  {_short(picture)}')
    if args.json:
        write_json(args.json, {'steps': runner.iter, 'minutes': minutes, **metrics})
    print(f'report   {_short(page)}')
    print(f'weights  {_short(weights)}')
    print(f'log      {_short(log_path)}')
    return 0


def _short(path: Path) -> Path:
    """The path relative to the current folder, if it is inside."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == '__main__':
    sys.exit(main())

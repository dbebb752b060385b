#!/usr/bin/env python3
"""Train a small detection transformer on embedded real images, evaluate it, draw what it sees.

make demo                    # about 10 minutes on 2 CPU cores
make demo ARGS=--resume      # go on after an interruption
"""

from __future__ import annotations

import argparse
import contextlib
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from mmdetr_plugin.engine.command_line import set_resume
from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.visualization import Picture, draw_grid

ROOT = Path(__file__).resolve().parents[1]
GRID = 24
CELL = 320  # pixels of the longer side of a picture, at most


class Progress(Hook):
    """A bar over all steps, with the loss and the time that is left."""

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
            self.bar.set_postfix(epoch=epoch, loss=f'{float(outputs["loss"]):.2f}', refresh=False)
        self.bar.update()

    def after_train(self, runner: Runner) -> None:
        self.bar.close()


@contextlib.contextmanager
def quiet(log: TextIO) -> Iterator[None]:
    """What MMEngine and pycocotools print goes to ``log``, which MMEngine's logger keeps."""
    with contextlib.redirect_stdout(log), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def load_config(args: argparse.Namespace) -> Config:
    cfg = Config.fromfile(args.config)
    cfg.work_dir = str(args.work_dir)
    cfg.randomness = {'seed': 0}
    if args.epochs is not None:
        cfg.merge_from_dict(
            {
                'train_cfg.max_epochs': args.epochs,
                'train_cfg.val_interval': args.epochs,
                'param_scheduler.1.T_max': args.epochs,
            }
        )
    root = f'{args.data}/'
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = root
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = f'{root}annotations/val.json'
    return cfg


def draw(runner: Runner, path: Path, resized_truth: bool = False) -> None:
    """The grid of the first validation images, written whole or not at all.

    Their true boxes are in pixels of the files as predictions are, or with ``resized_truth`` of the
    network's input.
    """
    pictures = []
    for batch in runner.val_dataloader:
        samples = runner.model.val_step(batch)
        for image, sample in zip(batch['inputs'], samples, strict=True):
            found, truth = sample.pred_instances.cpu().numpy(), sample.gt_instances.cpu().numpy()
            shrunk = min(1.0, CELL / max(image.shape[1:]))
            scale = np.tile(sample.scale_factor, 2) * shrunk  # from pixels of the file
            pixels = np.ascontiguousarray(image.numpy().transpose(1, 2, 0)[..., ::-1])
            pictures.append(
                Picture(
                    image=cv2.resize(pixels, None, fx=shrunk, fy=shrunk),
                    boxes=found.bboxes * scale,
                    labels=found.labels,
                    scores=found.scores,
                    true_boxes=truth.bboxes * (shrunk if resized_truth else scale),
                    true_labels=truth.labels,
                )
            )
        if len(pictures) >= GRID:
            break
    grid = draw_grid(pictures[:GRID], runner.val_dataloader.dataset.metainfo['classes'])
    aside = path.with_name(f'.{path.name}')  # a name of its own until it is whole
    cv2.imwrite(str(aside), grid[..., ::-1])
    aside.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default=str(ROOT / 'configs/digits_deformable_detr.py'))
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/demo')
    parser.add_argument('--data', type=Path, default=ROOT / 'data/digits')
    parser.add_argument('--resume', action='store_true', help='go on with an interrupted run')
    parser.add_argument('--epochs', type=int, help='train this long (default: the config)')
    parser.add_argument('--num-train', type=int, default=2000, help='training images to make')
    parser.add_argument('--num-val', type=int, default=200, help='validation images to make')
    args = parser.parse_args()

    args.work_dir.mkdir(parents=True, exist_ok=True)
    log_path = args.work_dir / 'demo.log'
    log = log_path.open('a')
    fresh = make_digits(args.data, num_train=args.num_train, num_val=args.num_val)
    print(f'data     {_short(args.data)} ({"made" if fresh else "already there"})')
    with quiet(log):
        cfg = load_config(args)
        if args.resume:
            set_resume(parser, cfg, 'auto')
        runner = Runner.from_cfg(cfg)
        runner.register_hook(Progress())
    if args.resume:
        latest = _short(Path(cfg.load_from)) if cfg.resume else 'nothing to resume, starting anew'
        print(f'resume   {latest}')
    started = time.time()
    with quiet(log):
        runner.train()
        minutes = (time.time() - started) / 60
        metrics = runner.val()
    picture = args.work_dir / 'grid.png'
    draw(runner, picture)
    size = sum(p.numel() for p in runner.model.parameters())
    print(f'model    {Path(args.config).stem}, {size / 1e6:.1f} M parameters')
    print(f'training {runner.iter} steps, {minutes:.1f} min')
    print(
        f'COCO AP  {metrics["coco/bbox_mAP"]:.3f}   '
        f'AP50 {metrics["coco/bbox_mAP_50"]:.3f}   AP75 {metrics["coco/bbox_mAP_75"]:.3f}'
    )
    print(f'picture  {_short(picture)}')
    print(f'weights  {_short(args.work_dir / f"epoch_{runner.epoch}.pth")}')
    print(f'log      {_short(log_path)}')


def _short(path: Path) -> Path:
    """Relative to where the command was called, if that is inside."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == '__main__':
    main()

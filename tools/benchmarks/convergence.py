#!/usr/bin/env python3
"""Train the variants side by side on the digits set: AP against epochs.

    python tools/benchmarks/convergence.py --minutes 8       # repeat until it is complete
    python tools/benchmarks/convergence.py detr_r50 conditional_detr_r50 deformable_detr_r50

All variants have the demo's data, augmentation, batch, schedule and backbone, see
`mmdetr_plugin/testing/variants.py`. With --pretrain they share a frozen backbone that has learnt to
classify digits, and single maps have stride 8 as in the papers' DC5 models. --size changes the size
of the pictures. After every evaluation curves.json, curves.png and table.md are written. An
interrupted run continues after its last complete epoch. The exit code is 3 if the time was over.
"""

from __future__ import annotations

import argparse
import itertools
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
from mmdetr_plugin.testing import config_path, project_root, quiet, small
from mmdetr_plugin.testing.curves import Curve, Curves, Point, Record
from mmdetr_plugin.testing.digits_training import DigitsTraining
from mmdetr_plugin.testing.pretraining import pretrain

ROOT = project_root()
BASELINE = 'detr_r50'
NOTHING = 0.01
"""If the baseline ends below this AP, it was trained too briefly for a comparison."""


def variants() -> list[str]:
    """Names of the configs whose models still differ after shrinking.

    Configs that differ only in depth, dilation or schedule are the same after shrinking. Panoptic
    models are left out: masks do not change the curve of the boxes.
    """
    names, seen = [], []
    files = sorted((ROOT / 'configs').glob('*.py'), key=lambda file: (len(file.stem), file.stem))
    for file in files:
        cfg = Config.fromfile(file)
        if file.stem.startswith('digits') or 'panoptic' in file.stem:
            continue
        model = small(cfg).model.to_dict()
        if model not in seen:
            seen.append(model)
            names.append(file.stem)
    return sorted(names, key=lambda name: (name != BASELINE, name))


def settings(args: argparse.Namespace) -> dict[str, float]:
    """The settings that all curves of one file must share."""
    keys = ('epochs', 'images', 'interval', 'seed', 'size', 'pretrain', 'lr')
    return {key: getattr(args, key) for key in keys}


def training(args: argparse.Namespace) -> DigitsTraining:
    """The training that all variants get."""
    keys = ('data', 'work_dir', 'epochs', 'interval', 'images', 'size', 'lr', 'seed', 'workers')
    backbone = args.work_dir / 'backbone.pth' if args.pretrain else None
    return DigitsTraining(**{key: getattr(args, key) for key in keys}, backbone=backbone)


def train(name: str, args: argparse.Namespace, curves: Curves, deadline: float) -> bool:
    """Train one variant; return False if the time was over before the last epoch."""
    if curves.reaches(name, args.epochs):
        return True

    def save(point: Point) -> None:
        curves.add(name, point)
        report(curves, args)
        print(
            f'{name}: epoch {point["epoch"]}/{args.epochs}, AP {point["ap"]:.3f}',
            file=sys.stderr,
            flush=True,
        )

    cfg = training(args).config(name)
    Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
    hook = Record(save, deadline)
    with (args.work_dir / 'convergence.log').open('a') as log, quiet(log):
        if not find_latest_checkpoint(cfg.work_dir):
            curves.of(name).clear()
        runner = Runner.from_cfg(cfg)
        runner.register_hook(hook)
        runner.train()
    return not hook.out_of_time


def epochs_to_reach(curve: Curve, ap: float) -> int | None:
    """The first evaluated epoch with at least that AP; None if there is none."""
    return next((int(point['epoch']) for point in curve if point['ap'] >= ap), None)


def table(curves: Mapping[str, Curve], epochs: int) -> str:
    """A Markdown table: last AP, and epochs to the AP with which the baseline ends.

    The epochs are left out until the baseline is fully trained, and if it has learnt nothing.
    """
    end = curves.get(BASELINE) or [{'epoch': 0}]
    finished = end[-1]['epoch'] >= epochs
    goal = end[-1]['ap'] if finished and end[-1]['ap'] >= NOTHING else None
    lines = ['| variant | epochs | AP | AP50 | epochs to the last AP of DETR | times fewer |']
    lines.append('|---|---|---|---|---|---|')
    for name, curve in curves.items():
        if not curve:
            continue
        last = curve[-1]
        cells = [name, f'{last["epoch"]:.0f}', f'{last["ap"]:.3f}', f'{last["ap50"]:.3f}']
        needed = None if goal is None else epochs_to_reach(curve, goal)
        reached = (
            ['not reached', '-'] if needed is None else [f'{needed}', f'{epochs / needed:.1f}']
        )
        lines.append(f'| {" | ".join(cells + (["-", "-"] if goal is None else reached))} |')
    return '\n'.join(lines) + '\n'


def plot(curves: Mapping[str, Curve], path: Path) -> None:
    """AP against epochs, one line per variant, the baseline black."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout='constrained')
    colours = itertools.cycle(pyplot.get_cmap('tab20')(range(20)))
    for name, curve in curves.items():
        first = name == BASELINE
        axes.plot(
            [point['epoch'] for point in curve],
            [100 * point['ap'] for point in curve],
            color='black' if first else next(colours),
            linewidth=2.5 if first else 1.5,
            marker='.',
            label=name,
        )
    axes.set_xlabel('epochs')
    axes.set_ylabel('AP (%), validation')
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(fontsize='small')
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def report(curves: Curves, args: argparse.Namespace) -> None:
    """Write the table and the picture."""
    (args.work_dir / 'table.md').write_text(table(curves.curves, args.epochs))
    plot(curves.curves, args.work_dir / 'curves.png')


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', metavar='NAME', help='configs (default: all variants)')
    parser.add_argument('--epochs', type=int, default=50)
    parser.add_argument('--images', type=int, default=2000, help='training images per epoch')
    parser.add_argument('--size', type=int, default=160, help='side of the pictures in pixels')
    parser.add_argument('--lr', type=float, default=6e-4, help='rate of the transformer')
    parser.add_argument(
        '--pretrain',
        type=int,
        default=0,
        metavar='EPOCHS',
        help='first train a backbone to classify digits; all variants then use it, frozen',
    )
    parser.add_argument('--interval', type=int, default=1, help='epochs between evaluations')
    parser.add_argument('--minutes', type=float, help='stop cleanly before this time has passed')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, help='loading processes (default: the config)')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/convergence')
    parser.add_argument('--data', type=Path, default=ROOT / 'data/digits', help='the digits set')
    parser.add_argument('--num-train', type=int, default=5000, help='digits images to make')
    parser.add_argument('--num-val', type=int, default=200, help='digits images to make')
    args = parser.parse_args(argv)
    deadline = time.time() + 60 * args.minutes if args.minutes else float('inf')
    args.work_dir.mkdir(parents=True, exist_ok=True)
    make_digits(args.data, num_train=args.num_train, num_val=args.num_val)
    try:
        curves = Curves(args.work_dir / 'curves.json', settings(args))
    except ValueError as error:
        parser.error(str(error))
    backbone = args.work_dir / 'backbone.pth'
    if args.pretrain and not backbone.is_file():
        model = small(Config.fromfile(config_path('deformable_detr_r50'))).model
        model.backbone.out_indices = (3,)
        preprocessor = model.data_preprocessor
        with (args.work_dir / 'convergence.log').open('a') as log, quiet(log):
            pretrain(model.backbone, preprocessor, args.data, backbone, args.pretrain, args.seed)
    for i, name in enumerate(args.names or variants()):
        if (i and time.time() >= deadline) or not train(name, args, curves, deadline):
            print('time is up: run the command again to continue')
            return 3
    print((args.work_dir / 'table.md').read_text(), end='')
    return 0


if __name__ == '__main__':
    sys.exit(main())

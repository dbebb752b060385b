#!/usr/bin/env python3
"""Train the variants side by side on the digits set: AP against epochs.

    python tools/benchmarks/convergence.py --minutes 8       # again and again, until it is complete
    python tools/benchmarks/convergence.py detr_r50 conditional_detr_r50 deformable_detr_r50

All have the demo's data, augmentation, batch, schedule and backbone (`tools/small.py`). With
--pretrain they start from the same backbone that already knows digits (`backbone.py`), frozen, with
the single map at stride 8 as in the papers' DC5 models; --size makes the pictures smaller. Every
evaluation is added to curves.json at once, and curves.png and table.md are made anew. A run that
was interrupted goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from backbone import pretrain
from demo import quiet
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint
from overfit import write_json
from small import ROOT, small

from mmdetr_plugin.datasets import make_digits

BASELINE = 'detr_r50'
NOTHING = 0.01
"""An AP below says nothing about convergence: the baseline was trained too shortly."""
CONFIGS = ROOT / 'configs'

Curve = Sequence[Mapping[str, float]]
"""Evaluations in order: ``epoch`` (from 1), ``ap``, ``ap50``."""


class Record(Hook):
    """Hands evaluations to ``save``; stops before an epoch that would end after ``deadline``."""

    priority = 'LOWEST'

    def __init__(self, save: Callable[[dict[str, float]], None], deadline: float) -> None:
        self.save, self.deadline = save, deadline
        self.begun = time.time()
        self.out_of_time = False

    def before_train_epoch(self, runner: Runner) -> None:
        self.begun = time.time()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        names = {'ap': 'coco/bbox_mAP', 'ap50': 'coco/bbox_mAP_50'}
        self.save({'epoch': runner.epoch, **{k: metrics[name] for k, name in names.items()}})
        now = time.time()
        if runner.epoch < runner.max_epochs and now + (now - self.begun) > self.deadline:
            self.out_of_time = runner.train_loop.stop_training = True


def variants() -> list[str]:
    """Names of the configs that still differ once they are shrunk: not depth, dilation or schedule
    of the same model, and no masks, which do not change the boxes' curve."""
    names, seen = [], []
    files = sorted(CONFIGS.glob('*.py'), key=lambda file: (len(file.stem), file.stem))
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
    """What all curves of one file have in common."""
    keys = ('epochs', 'images', 'interval', 'seed', 'size', 'pretrain', 'lr')
    return {key: getattr(args, key) for key in keys}


def read_curves(path: Path, common: Mapping[str, float]) -> dict:
    """The file's content, or that of a new one.

    Raises:
        ValueError: it was made with other settings.
    """
    if not path.is_file():
        return {'settings': dict(common), 'curves': {}}
    content = json.loads(path.read_text())
    if content['settings'] != dict(common):
        raise ValueError(
            f'curves in one file must share their settings, {path} has {content["settings"]}, got '
            f'{dict(common)}; repeat those, or name another --work-dir'
        )
    return content


def resize(pipeline: Sequence[dict], size: int) -> None:
    """Pictures of ``size`` pixels; the smallest box that is kept shrinks with them."""
    for step in pipeline:
        if step['type'] == 'Resize':
            before, step['scale'] = step['scale'][0], (size, size)
        elif step['type'] == 'FilterAnnotations':
            step['min_gt_bbox_wh'] = tuple(side * size / before for side in step['min_gt_bbox_wh'])


def start_from(model: ConfigDict, path: Path) -> None:
    """Begin with those weights and keep them; a single map is then read at stride 8."""
    backbone, reader = model.backbone, model.decoder.layer.cross_attn
    backbone.init_cfg = ConfigDict(type='Pretrained', checkpoint=str(path))
    backbone.update(frozen_stages=backbone.num_stages, norm_eval=True)
    if backbone.num_stages == 3:
        backbone.update(strides=(1, 2, 1), dilations=(1, 1, 2))
        if reader.get('prior'):
            reader.prior.strides = (8,)


def prepare(name: str, args: argparse.Namespace) -> Config:
    cfg = small(Config.fromfile(CONFIGS / f'{name}.py'))
    root = f'{args.data}/'
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = root
        resize(loader.dataset.pipeline, args.size)
        if args.workers is not None:
            loader.update(num_workers=args.workers, persistent_workers=args.workers > 0)
    if args.pretrain:
        start_from(cfg.model, args.work_dir / 'backbone.pth')
    cfg.optim_wrapper.optimizer.lr = args.lr
    cfg.train_dataloader.dataset.indices = args.images
    cfg.val_evaluator.ann_file = f'{root}annotations/val.json'
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.train_cfg = ConfigDict(
        type='EpochBasedTrainLoop', max_epochs=args.epochs, val_interval=args.interval
    )
    cfg.param_scheduler[1].T_max = args.epochs
    cfg.default_hooks.checkpoint = ConfigDict(type='CheckpointHook', interval=1, max_keep_ckpts=1)
    cfg.work_dir = str(args.work_dir / name)
    cfg.randomness = ConfigDict(seed=args.seed)
    cfg.resume = True
    return cfg


def train(name: str, args: argparse.Namespace, content: dict, deadline: float) -> bool:
    """Train one variant to its end, False if the time did not suffice."""
    path = args.work_dir / 'curves.json'
    curve = content['curves'].setdefault(name, [])
    if curve and curve[-1]['epoch'] >= args.epochs:
        return True

    def save(point: dict[str, float]) -> None:
        curve[:] = [old for old in curve if old['epoch'] < point['epoch']] + [point]
        write_json(path, content)
        report(content, args.work_dir)
        print(
            f'{name}: epoch {point["epoch"]}/{args.epochs}, AP {point["ap"]:.3f}',
            file=sys.stderr,
            flush=True,
        )

    cfg = prepare(name, args)
    Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
    hook = Record(save, deadline)
    with (args.work_dir / 'convergence.log').open('a') as log, quiet(log):
        if not find_latest_checkpoint(cfg.work_dir):
            curve.clear()
        runner = Runner.from_cfg(cfg)
        runner.register_hook(hook)
        runner.train()
    return not hook.out_of_time


def epochs_to_reach(curve: Curve, ap: float) -> int | None:
    """The first evaluated epoch with at least that AP; None if there is none."""
    return next((int(point['epoch']) for point in curve if point['ap'] >= ap), None)


def table(curves: Mapping[str, Curve], epochs: int) -> str:
    """Rows in Markdown: last AP, and epochs to the AP that the baseline ends with.

    These are left open until the baseline is trained to its end, and if it has learnt nothing.
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
    colours = iter(pyplot.colormaps['tab20'].colors * 3)
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


def report(content: dict, folder: Path) -> None:
    """Write the table and the picture."""
    curves = content['curves']
    (folder / 'table.md').write_text(table(curves, content['settings']['epochs']))
    plot(curves, folder / 'curves.png')


def main() -> None:
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
        help='start all from one backbone that learnt to name digits for so long, frozen',
    )
    parser.add_argument('--interval', type=int, default=1, help='epochs between evaluations')
    parser.add_argument('--minutes', type=float, help='stop cleanly before so many have passed')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, help='loading processes (default: the config)')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/convergence')
    parser.add_argument('--data', type=Path, default=ROOT / 'data/digits', help='the digits set')
    parser.add_argument('--num-train', type=int, default=2000, help='digits images to make')
    parser.add_argument('--num-val', type=int, default=200, help='digits images to make')
    args = parser.parse_args()
    deadline = time.time() + 60 * args.minutes if args.minutes else float('inf')
    args.work_dir.mkdir(parents=True, exist_ok=True)
    make_digits(args.data, num_train=args.num_train, num_val=args.num_val)
    try:
        content = read_curves(args.work_dir / 'curves.json', settings(args))
    except ValueError as error:
        parser.error(str(error))
    backbone = args.work_dir / 'backbone.pth'
    if args.pretrain and not backbone.is_file():
        model = small(Config.fromfile(CONFIGS / 'deformable_detr_r50.py')).model
        model.backbone.out_indices = (3,)
        preprocessor = model.data_preprocessor
        with (args.work_dir / 'convergence.log').open('a') as log, quiet(log):
            pretrain(model.backbone, preprocessor, args.data, backbone, args.pretrain, args.seed)
    for i, name in enumerate(args.names or variants()):
        if (i and time.time() >= deadline) or not train(name, args, content, deadline):
            print('time is up: call it again to go on')
            return
    print((args.work_dir / 'table.md').read_text(), end='')


if __name__ == '__main__':
    main()

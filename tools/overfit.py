#!/usr/bin/env python3
"""Train a model on a few images until it knows them by heart.

    python tools/overfit.py configs/detr_r50.py --images 16
    python tools/overfit.py configs/finetune/detr_r50_12e.py --as-is --cfg-options data_root=FOLDER
    python tools/overfit.py --images 16 --minutes 8    # one config of every variant

A working detector reaches AP 0.9 on the images it is trained on. If it does not, the fault lies in
the annotations, the labels or the model, and more data will not help. By default the model is shrunk
to the demo's size and learns the digits set; --as-is keeps the config and its COCO data. The exit
code is 1 if a model did not reach the AP, and 3 if the time was over before all were run: with
--results the next call continues.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

if 'OMP_WAIT_POLICY' not in os.environ:  # read when torch is loaded: docs/training.md
    os.environ.setdefault('GOMP_SPINCOUNT', '20000')

from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.datasets.agreement import check_agreement
from mmdetr_plugin.datasets.completion import complete
from mmdetr_plugin.datasets.digits.build import NUM_TRAIN
from mmdetr_plugin.datasets.presence import check_presence
from mmdetr_plugin.engine.command_line import add_cfg_options, read_config
from mmdetr_plugin.engine.project import config_path, project_root
from mmdetr_plugin.registry import DATASETS
from mmdetr_plugin.testing import quiet, small, write_json
from mmdetr_plugin.visualization import draw_validation

ROOT = project_root()
ROWS = (
    'detr_r50',
    'detr_panoptic_r50',
    'deformable_detr_r50',
    'deformable_detr_refine_r50',
    'deformable_detr_two_stage_r50',
    'conditional_detr_r50',
    'smca_detr_r50',
    'anchor_detr_r50',
    'dab_detr_r50',
    'dab_deformable_detr_r50',
    'sam_detr_r50',
    'sam_detr_smca_r50',
    'mix_conditional_smca_r50',
    'mix_anchor_deformable_r50',
    'mix_two_stage_conditional_r50',
    'dn_dab_detr_r50',
    'dn_dab_deformable_detr_r50',
    'dino_r50',
    'h_deformable_detr_r50',
    'h_deformable_detr_one_stage_r50',
    'group_conditional_detr_r50',
    'group_dab_detr_r50',
    'group_dino_r50',
    'ddq_detr_r50',
    'mix_dn_sam_detr_r50',
    'mix_dn_conditional_detr_r50',
    'mix_dn_anchor_detr_r50',
    'mix_group_two_stage_r50',
    'rt_detr_r18',
    'rtdetrv2_r18',
    'd_fine_s',
    'deim_d_fine_s',
    'deimv2_s',
    'lw_detr_tiny',
    'rf_detr_small',
    'up_detr_r50',
    'tsp_fcos_r50',
    'tsp_rcnn_r50',
)
"""One config of every variant that learns in its own way, and the mixes."""
WARMUP = 50  # steps
LOADERS = ('LoadAnnotations', 'mmdet.LoadAnnotations')


class StopWhenLearnt(Hook):
    """Prints every evaluation and ends the training when AP reaches ``target``."""

    priority = 'LOWEST'

    def __init__(self, target: float) -> None:
        self.target = target
        self.curve: list[dict[str, float]] = []
        self.loss = float('nan')

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        self.loss = float((outputs or {})['loss'])

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        assert metrics is not None  # MMEngine passes them after a validation
        ap, ap50 = (metrics[f'coco/bbox_mAP{suffix}'] for suffix in ('', '_50'))
        self.curve.append({'step': runner.iter, 'loss': self.loss, 'ap': ap, 'ap50': ap50})
        print(
            f'step {runner.iter:5d}   loss {self.loss:7.3f}   AP {ap:.3f}   AP50 {ap50:.3f}',
            file=sys.stderr,
            flush=True,
        )
        runner.train_loop.stop_training = ap >= self.target


@DATASETS.register_module()
class InMemory:
    """Keeps all samples of a dataset in memory; its pipeline must not be random."""

    def __init__(self, dataset: ConfigDict) -> None:
        built = DATASETS.build(dataset)
        self.samples = [built[i] for i in range(len(built))]
        self.metainfo = built.metainfo

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        return self.samples[index]


def fixed_pipeline(test_pipeline: list, masks: bool) -> list:
    """The test pipeline, which is not random, with annotations that are resized with the image."""
    steps = [ConfigDict(step) for step in test_pipeline if step['type'] not in LOADERS]
    steps.insert(1, ConfigDict(type='LoadAnnotations', with_bbox=True, with_mask=masks))
    return steps


def write_subset(dataset: ConfigDict, number: int, path: Path) -> None:
    """Write a COCO file with the first ``number`` training images that have objects."""
    if 'ann_file' not in dataset or 'Panoptic' in dataset.type:
        raise ValueError(
            f'overfit needs boxes in a COCO file, got a dataset of type {dataset.type}; use the '
            'dataset itself, without a wrapper, or leave --as-is out to train on the digits'
        )
    data = DATASETS.build({**dataset, 'pipeline': []})
    infos = (data.get_data_info(i) for i in range(len(data)))
    chosen = [x['img_id'] for x in infos if any(not a['ignore_flag'] for a in x['instances'])]
    if len(chosen) < number:
        raise ValueError(
            f'the training data must have {number} images with objects, got {len(chosen)}; '
            'lower --images, or check that the class names in config and annotations are the same'
        )
    content = json.loads(Path(data.ann_file).read_text())
    kept = set(chosen[:number])
    content['images'] = [x for x in content['images'] if x['id'] in kept]
    content['annotations'] = [x for x in content['annotations'] if x['image_id'] in kept]
    write_json(path, content)


def prepare(cfg: Config, args: argparse.Namespace, folder: Path) -> Config:
    """Change the config so that it trains and evaluates on the same few images."""
    init_default_scope('mmdetr_plugin')
    train, val = cfg.train_dataloader, cfg.val_dataloader
    annotations = folder / 'annotations.json'
    write_subset(train.dataset, args.images, annotations)
    train.dataset.ann_file = str(annotations.resolve())
    train.dataset.pipeline = fixed_pipeline(val.dataset.pipeline, 'mask_head' in cfg.model)
    train.sampler = ConfigDict(type='InfiniteSampler', shuffle=True)
    train.pop('batch_sampler', None)
    train.batch_size = min(train.batch_size, args.images)
    cfg.optim_wrapper.accumulative_counts = 1  # a few images need no accumulation
    for loader in (train, val):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset = ConfigDict(type='mmdetr_plugin.InMemory', dataset=train.dataset)
    cfg.val_evaluator = ConfigDict(type='CocoMetric', ann_file=str(annotations), metric='bbox')
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.train_cfg = ConfigDict(
        type='IterBasedTrainLoop', max_iters=args.steps, val_interval=args.interval
    )
    cfg.param_scheduler = [
        ConfigDict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=WARMUP),
        ConfigDict(type='CosineAnnealingLR', T_max=args.steps, eta_min_ratio=0.01, by_epoch=False),
    ]
    cfg.log_processor = ConfigDict(type='LogProcessor', window_size=50, by_epoch=False)
    cfg.default_hooks.checkpoint = None
    cfg.work_dir = str(folder)
    cfg.randomness = ConfigDict(seed=args.seed)
    return cfg


def learn(config: str, args: argparse.Namespace) -> dict[str, float]:
    """Train one config; return its steps, AP, and whether the target was reached."""
    parser = argparse.ArgumentParser(prog='overfit.py')
    cfg = read_config(parser, config)
    folder = args.work_dir / Path(config).stem
    folder.mkdir(parents=True, exist_ok=True)
    if not args.as_is:
        make_digits(args.data, num_train=args.num_train, num_val=args.num_val)
        cfg = small(cfg)
        cfg.train_dataloader.dataset.data_root = f'{args.data}/'
        cfg.val_dataloader.dataset.data_root = f'{args.data}/'
    cfg.merge_from_dict(args.cfg_options or {})
    check_presence(cfg, ('train',))
    complete(cfg)
    check_agreement(cfg, ('train',))
    hook = StopWhenLearnt(args.target)
    started = time.time()
    with (folder / 'overfit.log').open('a') as log, quiet(log):
        runner = Runner.from_cfg(prepare(cfg, args, folder))
        runner.register_hook(hook)
        runner.train()
        draw_validation(runner, folder / 'grid.png', resized_truth=True)
    last = hook.curve[-1]
    return {
        'images': args.images,
        'steps': last['step'],
        'ap': last['ap'],
        'ap50': last['ap50'],
        'reached': last['ap'] >= args.target,
        'limit': args.steps,
        'minutes': round((time.time() - started) / 60, 1),
    }


def explain(result: Mapping[str, float]) -> str:
    """Advice for a model that did not reach the target."""
    if result['ap50'] >= 0.9:
        return 'objects are found, but boxes are inexact: look at grid.png, try more --steps'
    if result['ap50'] >= 0.3:
        return 'it learns slowly: try more --steps, then look at the labels in grid.png'
    return 'it hardly learns: look at boxes and labels in grid.png, then at the learning rate'


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'configs', nargs='*', metavar='CONFIG', help='default: one of every variant'
    )
    parser.add_argument('--images', type=int, default=8)
    parser.add_argument('--steps', type=int, default=800, help='give up after this many steps')
    parser.add_argument('--interval', type=int, default=25, help='steps between evaluations')
    parser.add_argument('--minutes', type=float, help='start no other config after this time')
    parser.add_argument('--target', type=float, default=0.9, help='AP to reach')
    parser.add_argument(
        '--as-is', action='store_true', help='keep the model and the data of the config'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/overfit')
    parser.add_argument(
        '--results', type=Path, help='add the results to this file, and skip those it has'
    )
    parser.add_argument('--data', type=Path, default=ROOT / 'data/digits', help='the digits set')
    parser.add_argument('--num-train', type=int, default=NUM_TRAIN, help='digits images to make')
    parser.add_argument('--num-val', type=int, default=200, help='digits images to make')
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    args.work_dir.mkdir(parents=True, exist_ok=True)

    configs = args.configs or [str(config_path(name)) for name in ROWS]
    deadline = time.time() + 60 * args.minutes if args.minutes else float('inf')
    results = {}
    if args.results and args.results.is_file():
        results = json.loads(args.results.read_text())
    for config in configs:
        name = Path(config).stem
        if results.get(name, {}).get('images') != args.images:
            if time.time() > deadline:
                print('time is up: run the command again to continue')
                return 3
            try:
                results[name] = learn(config, args)
            except (FileNotFoundError, ValueError) as error:
                parser.error(f'{name}: {error}')
            if args.results:
                write_json(args.results, results)
        result = results[name]
        verdict = 'reached' if result['reached'] else f'NOT reached: {explain(result)}'
        print(f'{name}: AP {result["ap"]:.3f} after {result["steps"]} steps, {verdict}', flush=True)
    return 0 if all(results[Path(config).stem]['reached'] for config in configs) else 1


if __name__ == '__main__':
    sys.exit(main())

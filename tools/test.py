#!/usr/bin/env python3
"""Evaluate a checkpoint.

python tools/test.py configs/deformable_detr_r50.py work_dirs/deformable_detr_r50/epoch_50.pth

Logs, pictures and the evaluated config are written to the folder `test` in the run's work dir.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlparse

if 'OMP_WAIT_POLICY' not in os.environ:  # read when torch is loaded: docs/training.md
    os.environ.setdefault('GOMP_SPINCOUNT', '20000')

from mmdet.evaluation import CocoMetric
from mmengine.config import Config, ConfigDict

import mmdetr_plugin.engine.command_line as command_line
from mmdetr_plugin.datasets.completion import complete
from mmdetr_plugin.datasets.presence import annotated_datasets
from mmdetr_plugin.evaluation.coco import CheckedCocoMetric
from mmdetr_plugin.registry import METRICS


def draw_results(parser: argparse.ArgumentParser, cfg: Config, args: argparse.Namespace) -> None:
    """Set up the visualization hook to show pictures or write them."""
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        parser.error('--show and --show-dir need default_hooks.visualization in the config')
    hook.draw = True
    hook.show = args.show
    hook.wait_time = args.wait_time
    if args.show_dir:
        hook.test_out_dir = args.show_dir


def dump_results(parser: argparse.ArgumentParser, cfg: Config, outs: Sequence[str]) -> None:
    """Set up further evaluators that write the predictions, as a pickle or as COCO's JSON."""
    evaluators = cfg.test_evaluator
    if not isinstance(evaluators, (list, tuple)):
        evaluators = [evaluators]
    writers = []
    for out in outs:
        path = Path(out)
        if path.suffix in ('.pkl', '.pickle'):
            writers.append({'type': 'mmdet.DumpDetResults', 'out_file_path': out})
        elif path.suffix == '.json':
            path.parent.mkdir(parents=True, exist_ok=True)
            prefix = {'format_only': True, 'outfile_prefix': str(path.with_suffix(''))}
            writers.append({**coco_evaluator(evaluators), **prefix})
        else:
            parser.error(f'--out must end in .pkl, .pickle or .json, got {out}')
    cfg.test_evaluator = [*evaluators, *writers]


def coco_evaluator(evaluators: Sequence[Mapping]) -> dict:
    """The evaluator of a config that knows COCO's numbers of the classes; if there is none, one."""
    for evaluator in evaluators:
        if issubclass(METRICS.get(evaluator['type']), CocoMetric):
            return dict(evaluator)
    return {'type': f'mmdetr_plugin.{CheckedCocoMetric.__name__}', 'ann_file': None}


def augment_tests(parser: argparse.ArgumentParser, cfg: Config) -> None:
    """Predict from several sizes and mirrored images, and merge; as mmdet's tools/test.py does."""
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        parser.error('--tta needs tta_model and tta_pipeline in the config (mmdet.DetTTAModel)')
    try:
        complete(cfg)  # the number of classes, which is the inner model's
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for _, dataset in annotated_datasets(cfg, 'test'):
        dataset['pipeline'] = cfg.tta_pipeline


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_line.make_parser('Evaluate a checkpoint')
    parser.add_argument('checkpoint', help='path or address of the checkpoint')
    parser.add_argument(
        '--out',
        action='append',
        default=[],
        metavar='FILE',
        help='write the predictions: FILE.pkl, or with FILE.json COCO results to FILE.bbox.json (and '
        'FILE.segm.json); may be given twice',
    )
    parser.add_argument('--show', action='store_true', help='show pictures with the boxes')
    parser.add_argument('--show-dir', help='write pictures with the boxes, below the work dir')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation of the config')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds per shown picture')
    args = parser.parse_args(argv)

    cfg = command_line.load_config(parser, args)
    # A one-letter scheme is a Windows drive.
    if len(urlparse(args.checkpoint).scheme) < 2 and not Path(args.checkpoint).is_file():
        parser.error(f'checkpoint must be a file or an address, got {args.checkpoint}')
    cfg.load_from = args.checkpoint
    if not args.work_dir:  # a separate folder: the config saved by training must not change
        cfg.work_dir = str(Path(cfg.work_dir, 'test'))
    if args.show or args.show_dir:
        draw_results(parser, cfg, args)
    if args.out:
        dump_results(parser, cfg, args.out)
    if args.tta:
        augment_tests(parser, cfg)
    command_line.build_runner(parser, cfg, 'test').test()
    command_line.end_processes()
    return 0


if __name__ == '__main__':
    sys.exit(main())

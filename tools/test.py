#!/usr/bin/env python3
"""Evaluate a checkpoint.

python tools/test.py configs/deformable_detr_r50.py work_dirs/deformable_detr_r50/epoch_50.pth

Logs, pictures and the evaluated config are written to the folder `test` in the run's work dir.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlparse

from mmengine.config import Config, ConfigDict

import mmdetr_plugin.engine.command_line as command_line
from mmdetr_plugin.datasets.completion import complete
from mmdetr_plugin.datasets.presence import annotated_datasets


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


def dump_results(parser: argparse.ArgumentParser, cfg: Config, out: str) -> None:
    """Set up a second evaluator that writes the predictions as a pickle."""
    if Path(out).suffix not in ('.pkl', '.pickle'):
        parser.error(f'--out must end in .pkl or .pickle, got {out}')
    evaluators = cfg.test_evaluator
    if not isinstance(evaluators, (list, tuple)):
        evaluators = [evaluators]
    cfg.test_evaluator = [*evaluators, {'type': 'mmdet.DumpDetResults', 'out_file_path': out}]


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
    parser.add_argument('--out', metavar='FILE.pkl', help='write the predictions')
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

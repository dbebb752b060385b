#!/usr/bin/env python3
"""Write an HTML page about a training run: results, curves, errors, pictures, attention, speed, config.

    python tools/report.py work_dirs/detr_r50
    python tools/report.py work_dirs/detr_r50 --checkpoint epoch_300.pth --out report.html

The model is evaluated on the validation images of its config. The page is one file that needs no other.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if 'OMP_WAIT_POLICY' not in os.environ:  # read when torch is loaded: docs/training.md
    os.environ.setdefault('GOMP_SPINCOUNT', '20000')

from tqdm import tqdm

import mmdetr_plugin.engine.command_line as command_line
from mmdetr_plugin.report import write_report


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dir', type=Path, help='folder that training wrote')
    parser.add_argument('--out', type=Path, help='the page (report.html in the work dir)')
    parser.add_argument('--checkpoint', type=Path, help='weights (the best ones, or the latest)')
    parser.add_argument('--config', type=Path, help='config (the one in the work dir)')
    parser.add_argument('--device', help='e.g. cpu or cuda:0 (a GPU if there is one)')
    parser.add_argument('--images', type=int, default=4, help='best and worst images drawn (4)')
    command_line.add_cfg_options(parser)
    args = parser.parse_args(argv)
    if args.images < 0:
        parser.error(f'--images must be 0 or more, got {args.images}')
    try:
        page = write_report(
            args.work_dir,
            args.out,
            args.checkpoint,
            args.config,
            args.device,
            args.cfg_options,
            args.images,
            lambda batches: tqdm(batches, desc='evaluating', unit='batch'),
        )
    except (OSError, ValueError, FloatingPointError) as error:
        parser.error(str(error))
    print(page)
    return 0


if __name__ == '__main__':
    sys.exit(main())

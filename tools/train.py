#!/usr/bin/env python3
"""Train a detector.

python tools/train.py configs/deformable_detr_r50.py --amp --resume
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

if 'OMP_WAIT_POLICY' not in os.environ:  # read when torch is loaded: docs/training.md
    os.environ.setdefault('GOMP_SPINCOUNT', '20000')

import mmdetr_plugin.engine.command_line as command_line


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_line.make_parser('Train a detector')
    parser.add_argument(
        '--amp',
        choices=(*command_line.PRECISIONS, 'auto'),
        help='mixed precision; without a value: fp16 on a GPU, bf16 elsewhere',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the square root of the total batch size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from a checkpoint; without a value: the latest one in the work dir, if any',
    )
    args = parser.parse_args(command_line.spell_out_amp(sys.argv[1:] if argv is None else argv))

    cfg = command_line.load_config(parser, args)
    if args.amp:
        command_line.set_precision(parser, cfg, args.amp)
    if args.resume or cfg.get('resume'):
        command_line.set_resume(parser, cfg, args.resume or cfg.get('load_from') or 'auto')
    runner = command_line.build_runner(parser, cfg, 'train', 'val')
    if args.auto_scale_lr:
        command_line.scale_learning_rate(parser, runner)
    runner.train()
    command_line.end_processes()
    return 0


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
"""Write a model as ONNX, and as OpenVINO's format, and compare it with PyTorch.

    python tools/export.py configs/detr_r50.py detr-r50.pth detr-r50.onnx
    python tools/export.py rt_detr_r18 weights.pth rt-detr.onnx --fixed 640 640 --openvino
    python tools/export.py deformable_detr_r50 weights.pth half.onnx --half

The file takes any number of images and, without --fixed, any size. Normalisation, padding masks and
post-processing are part of it; docs/export.md says what goes in and comes out. What it finds in random
pictures of two sizes, one and two at a time, is compared with what the model finds. The exit code is 1
if that differs too much, and 2 if an argument is wrong; nothing is written then.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import mmdetr_plugin.engine.command_line as command_line
from mmdetr_plugin.export import DifferenceError, export
from mmdetr_plugin.inference import load


def parse(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config, or name of one of this project')
    parser.add_argument('checkpoint', help='path or address of the weights')
    parser.add_argument('out', type=Path, help='file to write, OUT.onnx')
    parser.add_argument(
        '--fixed',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='take images of this size alone; a few models need it',
    )
    parser.add_argument('--half', action='store_true', help='compute in 16 bits')
    parser.add_argument(
        '--openvino', action='store_true', help='write OUT.xml and OUT.bin for OpenVINO too'
    )
    command_line.add_cfg_options(parser)
    return parser, parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    parser, args = parse(argv)
    fixed = None if args.fixed is None else tuple(args.fixed)
    try:
        predictor = load(args.config, args.checkpoint, 'cpu', options=args.cfg_options)
        files = export(predictor, args.out, fixed, args.half, args.openvino)
    except (OSError, ValueError, FloatingPointError) as error:
        parser.error(str(error))
    except DifferenceError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'written: {", ".join(map(str, files))}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

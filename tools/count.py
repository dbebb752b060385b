#!/usr/bin/env python3
"""Trainable parameters and multiply-accumulates of configs.

    python tools/count.py configs/detr_*.py --size 800 1128

Counted as the papers do: parameters without the frozen stem and first stage, one multiply-accumulate as
one FLOP, convolutions and matrix products (attention included) of one image; the bilinear sampling of
deformable attention is not a matrix product and is not counted. What is counted is a detection: parts
that only the losses need are not run. No weights are needed or loaded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmdetr_plugin.testing.counting import count


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+')
    parser.add_argument('--size', nargs=2, type=int, default=(800, 1128), metavar=('H', 'W'))
    parser.add_argument(
        '--num-classes', type=int, help='replaces that of the config; 91 in the papers'
    )
    parser.add_argument('--parts', action='store_true', help='show the parts of the model too')
    args = parser.parse_args(argv)
    height, width = args.size
    print(f'{"config":<36} {"parameters, M":>14} {"GMACs":>8}   at 1x3x{height}x{width}')
    for path in args.configs:
        found = count(path, height, width, args.num_classes)
        print(f'{Path(path).stem:<36} {found.parameters / 1e6:14.3f} {found.macs / 1e9:8.1f}')
        if args.parts:
            for part, macs in found.parts.items():
                print(f'  {part:<34} {"":>14} {macs / 1e9:8.2f}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

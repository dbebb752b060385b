#!/usr/bin/env python3
"""Write the digits set, handwriting on photographs in COCO format, from bundled data."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.datasets.digits.build import NUM_TRAIN


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--root', type=Path, default=Path('data/digits'), help='folder of the set')
    parser.add_argument('--num-train', type=int, default=NUM_TRAIN, help='training pictures')
    parser.add_argument('--num-val', type=int, default=200, help='validation pictures')
    parser.add_argument('--size', type=int, default=160, help='side of a picture in pixels')
    parser.add_argument('--seed', type=int, default=0, help='seed of everything random')
    args = parser.parse_args(argv)
    start = time.perf_counter()
    written = make_digits(args.root, args.num_train, args.num_val, args.size, args.seed)
    seconds = time.perf_counter() - start
    if written:
        counts = f'{args.num_train} training and {args.num_val} validation pictures'
        print(f'{args.root}: {counts} written in {seconds:.1f} s')
    else:
        print(f'{args.root}: already there with these settings')
    for split in ('train', 'val'):
        print(f'  {args.root / split}  {args.root / "annotations" / f"{split}.json"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

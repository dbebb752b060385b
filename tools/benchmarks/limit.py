#!/usr/bin/env python3
"""Inference and a training step of our models, and the products and convolutions in them alone.

    python tools/benchmarks/limit.py
    python tools/benchmarks/limit.py dino_r50 --size 480 640 --repeats 7
    python tools/benchmarks/limit.py detr_r50 --profile

What a run computes by torch's products, convolutions and attention is kept with its arguments and then
timed, each at its best. No model with these products can be faster. One image, random weights, single
precision, dropout while training.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch

from mmdetr_plugin.detector import DETR
from mmdetr_plugin.testing import write_json
from mmdetr_plugin.testing.benchmark import machine, parse, parser, table
from mmdetr_plugin.testing.inputs import add_small, configure_, images, samples
from mmdetr_plugin.testing.peers import mmdet_pair
from mmdetr_plugin.testing.products import Products

NAMES = ('deformable_detr_r50', 'detr_r50', 'conditional_detr_r50')
HEADER = ['case', 'ours, ms', 'products alone, ms', 'ours / products']


def inference(model: DETR, size: tuple[int, int]) -> Callable[[], object]:
    inputs = images(1, size, 'cpu')
    model.eval()

    @torch.no_grad()
    def run() -> object:
        return model.run(inputs, aux=False)

    return run


def training(model: DETR, size: tuple[int, int]) -> Callable[[], object]:
    inputs, batch = images(1, size, 'cpu'), samples(1, size, 10, 'cpu')
    model.train()

    def run() -> None:
        model.zero_grad(set_to_none=True)
        model.parse_losses(model.loss(inputs, batch))[0].backward()

    return run


def measure(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Seconds of the run (the median) and of its products alone."""
    run()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    with Products() as products:
        run()
    return median(times), products.seconds(repeats)


def profile(run: Callable[[], object], repeats: int, number: int = 12) -> list[list[str]]:
    """Names of the operators that take most of a run, and their milliseconds in it."""
    with torch.profiler.profile() as profiler:
        for _ in range(repeats):
            run()
    events = sorted(profiler.key_averages(), key=lambda e: -e.self_cpu_time_total)
    rest = sum(event.self_cpu_time_total for event in events[number:])
    times = [(e.key, e.self_cpu_time_total) for e in events[:number]] + [('others', rest)]
    return [[name, f'{time / 1e3 / repeats:.1f}'] for name, time in times]


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, devices=('cpu',))
    options.add_argument('names', nargs='*', metavar='NAME', help=f'of {", ".join(NAMES)}')
    options.add_argument(
        '--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), default=(480, 640)
    )
    options.add_argument('--profile', action='store_true', help='the time of each operator too')
    add_small(options)
    args = parse(options, argv)
    rows = []
    for name in args.names or NAMES:
        model = configure_(mmdet_pair(name, small=args.small)[1])
        for kind in (inference, training):
            run = kind(model, tuple(args.size))
            whole, alone = measure(run, args.repeats)
            case = f'{kind.__name__}, {name}, 1 x {args.size[0]} x {args.size[1]}'
            rows.append((case, whole, alone))
            if args.profile:
                print(table([[case, 'ms'], *profile(run, args.repeats)]))
    print(f'{machine("cpu")}\n')
    cells = [[c, f'{1e3 * w:.0f}', f'{1e3 * a:.0f}', f'{w / a:.2f}'] for c, w, a in rows]
    print(table([HEADER, *cells]), end='')
    if args.json:
        write_json(args.json, [{'case': c, 'seconds': w, 'products': a} for c, w, a in rows])
    return 0


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
"""Time and memory of the transformer against the side of a square image: ours and mmdet's.

    python tools/benchmarks/scaling.py --plot docs/images/scaling.png

DETR compares all H W tokens with each other, O((HW)^2); Deformable DETR samples a fixed number of
locations for each token, O(HW). The input are random feature maps of one image, so that backbone and
neck are not timed: only inference from the encoder to the heads is.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdetr_plugin.detector import DETR
from mmdetr_plugin.testing import given_features
from mmdetr_plugin.testing.benchmark import Contest, Result, Row, parse, parser, table
from mmdetr_plugin.testing.inputs import add_small, samples
from mmdetr_plugin.testing.peers import mmdet_pair

STRIDES = {'detr_r50': (32,), 'detr_dc5_r50': (16,), 'deformable_detr_r50': (8, 16, 32, 64)}
SIDES = (256, 512, 768, 1024, 1280, 1536)
DC5_LIMIT = 1024
"""mmdet's DC5 model takes more than 8 GiB at 1536."""


def maps(name: str, side: int, device: str) -> tuple[Tensor, ...]:
    """Random feature maps of one image, with the shapes that the neck would give."""
    generator = torch.Generator().manual_seed(0)
    cells = [math.ceil(side / stride) for stride in STRIDES[name]]
    return tuple(torch.randn(1, 256, n, n, generator=generator).to(device) for n in cells)


@torch.no_grad()
def of_mmdet(model: Any, levels: tuple[Tensor, ...], side: int) -> Result:
    batch = samples(1, (side, side), 0, levels[0].device)
    inputs = model.forward_transformer(levels, batch)
    logits, boxes = model.bbox_head(**inputs)[:2]
    return {'logits': logits[-1], 'boxes': boxes[-1]}


@torch.no_grad()
def of_ours(model: DETR, levels: tuple[Tensor, ...], side: int) -> Result:
    with given_features(model, levels):
        last = model.run(levels[0].new_zeros(1, 3, side, side), aux=False).layers[-1]
    return {'logits': last.logits, 'boxes': last.boxes}


def series(rows: Sequence[Row]) -> dict[str, dict[int, Row]]:
    """The rows of each '<model>, <who>', by the side of the image."""
    lines: dict[str, dict[int, Row]] = {}
    for row in rows:
        name, side = row.case.split(', ')
        lines.setdefault(f'{name}, {row.who}', {})[int(side)] = row
    return lines


def growth(rows: Sequence[Row]) -> str:
    """A table of the powers of H W by which time and memory grow between the two largest sides."""
    cells = [['model', 'sides', 'time ~ (HW)^', 'memory ~ (HW)^']]
    for name, line in series(rows).items():
        if len(line) < 2:
            continue
        low, high = sorted(line)[-2:]
        kinds = ('median_ms', 'peak_mib')
        steps = [math.log(getattr(line[high], k) / getattr(line[low], k)) for k in kinds]
        powers = [f'{step / (2 * math.log(high / low)):.2f}' for step in steps]
        cells.append([name, f'{low} to {high}', *powers])
    return table(cells)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Time and memory against the side, both axes logarithmic."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout='constrained')
    colours = dict(zip(STRIDES, pyplot.get_cmap('tab10')(range(10))))
    for name, line in series(rows).items():
        model, who = name.split(', ')
        sides = sorted(line)
        line_style = '-' if who == 'ours' else ':'
        options = {'color': colours[model], 'linestyle': line_style, 'marker': '.'}
        axes[0].plot(sides, [line[s].median_ms / 1e3 for s in sides], label=name, **options)
        axes[1].plot(sides, [line[s].peak_mib for s in sides], **options)
    for panel, label in zip(axes, ('seconds', 'working memory, MiB')):
        panel.set(xscale='log', yscale='log', xlabel='side of the image, pixels', ylabel=label)
        ticks = sorted({int(row.case.split(', ')[1]) for row in rows})
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    axes[0].legend(fontsize='small')
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, repeats=3)
    options.add_argument('names', nargs='*', metavar='NAME', help=f'of {", ".join(STRIDES)}')
    options.add_argument(
        '--sides', type=int, nargs='+', help='default: 256 to 1536, for DC5 256 to 1024'
    )
    options.add_argument('--plot', type=Path, metavar='FILE', help='draw the curves into this file')
    add_small(options)
    args = parse(options, argv)
    contest = Contest(args)
    for name in args.names or STRIDES:
        theirs, ours = (model.to(args.device) for model in mmdet_pair(name, small=args.small))
        limit = DC5_LIMIT if '_dc5_' in name else SIDES[-1]
        for side in args.sides or [side for side in SIDES if side <= limit]:
            levels = maps(name, side, args.device)
            runs = {
                'mmdet': partial(of_mmdet, theirs, levels, side),
                'ours': partial(of_ours, ours, levels, side),
            }
            contest.compare(f'{name}, {side}', runs)
    contest.finish()
    print('\n' + growth(contest.rows), end='')
    if args.plot:
        plot(contest.rows, args.plot)
    return 0


if __name__ == '__main__':
    sys.exit(main())

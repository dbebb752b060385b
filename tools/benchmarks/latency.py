#!/usr/bin/env python3
"""Latency of every config against its published AP: a table and a picture.

    python tools/benchmarks/latency.py --json docs/latency.json --plot docs/images/latency.png
    python tools/benchmarks/latency.py rt_detr_r18 d_fine_s --device cuda

One image of the size that the config tests with: a square, or 800 x 1066 where the shorter side is
800. Weights are random, norms folded. Time from the normalised image to detections. AP is what
model-index.yml gives, the authors' figure on COCO: it is not measured here. What the JSON file has from
an earlier call is not measured again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from mmengine.config import Config

from mmdetr_plugin.deployment import fold_for_deployment_
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.testing import project_root, write_json
from mmdetr_plugin.testing.benchmark import machine, parse, parser, table
from mmdetr_plugin.testing.inputs import images, samples, tested_size

ROOT = project_root()
AP = 'box AP of the authors'
"""The metric in the model index."""
Measured = dict[str, dict[str, Any]]


def published() -> dict[str, tuple[str, float]]:
    """Config names -> family and published box AP, where there is one."""
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    found = {}
    for model in index['Models']:
        for result in model.get('Results', ()):
            if AP in result['Metrics']:
                found[Path(model['Config']).stem] = model['In Collection'], result['Metrics'][AP]
    return found


@torch.no_grad()
def measure(name: str, device: str, repeats: int) -> dict[str, Any]:
    """Size of the image, and the median time in ms of ``repeats`` detections."""
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    cfg.model.backbone.init_cfg = None
    model = fold_for_deployment_(MODELS.build(cfg.model)).to(device)
    size = tested_size(cfg)
    image, batch = images(1, size, device), samples(1, size, 0, device)
    times = []
    for _ in range(repeats + 1):  # the first is left out
        started = time.perf_counter()
        model.predict(image, batch)
        if device == 'cuda':
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - started))
    return {'height': size[0], 'width': size[1], 'ms': round(median(times[1:]), 1)}


def rows(measured: Measured, known: Mapping[str, tuple[str, float]]) -> list[list[str]]:
    """Cells of the table, the fastest first."""
    cells = [['model', 'image', 'ms', 'AP (published)']]
    for name in sorted(measured, key=lambda name: measured[name]['ms']):
        one = measured[name]
        cells.append(
            [
                f'`{name}`',
                f'{one["height"]} x {one["width"]}',
                f'{one["ms"]:.0f}',
                f'{known[name][1]}',
            ]
        )
    return cells


def best(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (ms, AP) that no faster one equals or surpasses, the fastest first."""
    kept: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept


def plot(
    measured: Measured, known: Mapping[str, tuple[str, float]], title: str, path: Path
) -> None:
    """AP against latency; a line joins the models of a family that are worth their time."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullLocator

    figure, axes = pyplot.subplots(figsize=(10, 6), layout='constrained')
    families: dict[str, list[tuple[float, float]]] = {}
    for name, one in measured.items():
        family, ap = known[name]
        families.setdefault(family, []).append((one['ms'], ap))
    colours, markers = pyplot.get_cmap('tab20')(range(20)), 'osD^v'
    for i, (family, points) in enumerate(sorted(families.items())):
        colour = colours[i % 20]
        axes.plot(*zip(*best(points), strict=True), color=colour, linewidth=1)
        marker = markers[i % len(markers)]
        axes.scatter(*zip(*points, strict=True), 25, color=colour, marker=marker, label=family)
    axes.set(
        xscale='log', xlabel='ms for one image (log)', ylabel='published COCO AP (%)', title=title
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter('{x:.0f}')
    axes.grid(alpha=0.3)
    figure.legend(loc='outside right upper', fontsize='small')
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, repeats=3)
    options.add_argument(
        'names', nargs='*', metavar='NAME', help='configs; default: all with an AP'
    )
    options.add_argument(
        '--plot', type=Path, metavar='FILE', help='draw the picture into this file'
    )
    args = parse(options, argv)
    known = published()
    unknown = sorted(set(args.names) - set(known))
    if unknown:
        options.error(f'NAME must be a config with a published AP, got {unknown}; leave it out')
    measured: Measured = {}
    if args.json and args.json.is_file():
        measured = json.loads(args.json.read_text())['models']
    described = machine(args.device)
    for name in args.names or sorted(known):
        if name not in measured:
            measured[name] = measure(name, args.device, args.repeats)
            print(f'{name}: {measured[name]["ms"]:.0f} ms', file=sys.stderr, flush=True)
            if args.json:
                write_json(args.json, {'machine': described, 'models': measured})
    print(described, '\n\n' + table(rows(measured, known)), sep='', end='')
    if args.plot:
        processor = described.partition(',')[0]
        title = f'{processor}: time of one image, and the AP that its authors published'
        plot(measured, known, title, args.plot)
    return 0


if __name__ == '__main__':
    sys.exit(main())

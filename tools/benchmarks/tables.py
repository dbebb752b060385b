#!/usr/bin/env python3
"""Print the tables of the pages from the files that the benchmarks write with --json.

python tools/benchmarks/tables.py OUT          # a folder of tools/benchmarks/gpu.sh
python tools/benchmarks/tables.py train.json inference.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mmdetr_plugin.testing.benchmark import HEADER, Row, table

TITLES = {
    'deform_attn': 'Deformable attention',
    'attention': 'Attention',
    'train': 'Training step',
    'matching': 'Matching and losses',
    'inference': 'Inference',
    'graph': 'Inference, CUDA graph',
    'compiled': 'Inference, torch.compile',
}
"""Titles of files by how their names begin, in the order of the page; others go by their names."""
Section = tuple[str, str, list[list[str]]]
"""Title, machine, and the cells of a table."""


def compared(files: Sequence[Path]) -> Iterator[Section]:
    """Sections of the files that have rows of a contest."""
    sections: dict[str, Section] = {}
    for file in files:
        content = json.loads(file.read_text())
        if 'rows' not in content:
            continue
        title = next((t for key, t in TITLES.items() if file.stem.startswith(key)), file.stem)
        section = sections.setdefault(title, (title, content['machine'], [HEADER]))
        section[2].extend(Row(**row).cells() for row in content['rows'])
    order = [*TITLES.values()]
    yield from sorted(
        sections.values(), key=lambda s: order.index(s[0]) if s[0] in order else len(order)
    )


def trainings(folder: Path) -> Iterator[Section]:
    """Sections of the trainings: with mixed precision, the demo, convergence."""
    if (file := folder / 'amp.json').is_file():
        content = json.loads(file.read_text())
        cells = [['model', 'precision', 'steps', 'loss at first', 'at last', 'ms a step', 'good']]
        for name, runs in content['runs'].items():
            for precision, run in runs.items():
                losses = [f'{run[key]:.2f}' for key in ('first', 'last')]
                end = [f'{run["ms"]:.0f}', 'yes' if run['good'] else '**no**']
                cells.append([f'`{name}`', precision, str(run['steps']), *losses, *end])
        yield 'Training with mixed precision', content['machine'], cells
    if (file := folder / 'demo.json').is_file():
        run = json.loads(file.read_text())
        aps = [f'{run[f"coco/bbox_mAP{end}"]:.3f}' for end in ('', '_50', '_75')]
        row = [str(run['steps']), f'{run["minutes"]:.1f}', *aps]
        yield 'Demo', '', [['steps', 'minutes', 'AP', 'AP50', 'AP75'], row]
    if (file := folder / 'convergence' / 'curves.json').is_file():
        curves = json.loads(file.read_text())['curves']
        cells = [['variant', 'epochs', 'AP', 'AP50']]
        for name, curve in curves.items():
            if curve:
                aps = [f'{curve[-1][key]:.3f}' for key in ('ap', 'ap50')]
                cells.append([f'`{name}`', f'{curve[-1]["epoch"]:.0f}', *aps])
        yield 'Convergence', '', cells


def latencies(folder: Path) -> Iterator[Section]:
    """The section of latency.py."""
    if (file := folder / 'latency.json').is_file():
        content = json.loads(file.read_text())
        models = sorted(content['models'].items(), key=lambda item: item[1]['ms'])
        rows = [[f'`{n}`', f'{m["height"]} x {m["width"]}', f'{m["ms"]}'] for n, m in models]
        yield 'Latency', content['machine'], [['model', 'image', 'ms'], *rows]


def steps(folder: Path) -> Iterator[Section]:
    """What gpu.sh ran, the last time of each step, and the numbers of tests."""
    if (file := folder / 'steps.jsonl').is_file():
        ran: dict[str, dict[str, Any]] = {}
        for line in file.read_text().splitlines():
            step = json.loads(line)
            ran[step['step']] = step
        rows = [[s['stage'], s['step'], str(s['seconds']), str(s['code'])] for s in ran.values()]
        yield 'Steps', '', [['stage', 'step', 'seconds', 'exit code'], *rows]
    if (file := folder / 'tests.xml').is_file():
        (suite,) = ElementTree.parse(file).getroot().iter('testsuite')
        names = ['tests', 'failures', 'errors', 'skipped']
        yield 'Tests', '', [names, [suite.get(name, '-') for name in names]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument('paths', nargs='+', type=Path, metavar='PATH', help='folders or JSON files')
    args = parser.parse_args(argv)
    sections: list[Section] = []
    files: list[Path] = []
    for path in args.paths:
        if not path.exists():
            parser.error(f'PATH must be a folder or a JSON file, got {path}, which does not exist')
        files += sorted(path.glob('*.json')) if path.is_dir() else [path]
    sections += compared(files)
    for folder in filter(Path.is_dir, args.paths):
        sections += [*trainings(folder), *latencies(folder), *steps(folder)]
    if not sections:
        parser.error('there are no figures yet: no file has rows of a benchmark')
    shown = ''
    for title, place, cells in sections:
        print(f'## {title}\n')
        if place.partition(', load')[0] not in ('', shown):
            shown = place.partition(', load')[0]
            print(f'{place}\n')
        print(table(cells))
    return 0


if __name__ == '__main__':
    sys.exit(main())

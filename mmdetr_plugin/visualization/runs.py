"""A figure of the convergence of training runs, from the files that MMEngine writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

METRIC = 'coco/bbox_mAP'


def read_run(work_dir: Path, metric: str = METRIC) -> list[tuple[float, float]]:
    """(step, value) of every evaluation of a run; resumed runs are one run, the latest value counts.

    Raises:
        ValueError: the run has no value of that name; the message lists those that it has.
    """
    found: dict[float, float] = {}
    names: set[str] = set()
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text(encoding='utf-8').splitlines():
            entry = json.loads(line)
            names |= {name for name in entry if '/' in name}
            if metric in entry:
                found[float(entry['step'])] = float(entry[metric])
    if not found:
        raise ValueError(
            f'a work dir must hold evaluations of {metric}, got none in {work_dir}; '
            + (f'it has {sorted(names)}' if names else 'name the folder that training wrote')
        )
    return sorted(found.items())


def curves_figure(
    runs: Mapping[str, Sequence[tuple[float, float]]], metric: str = METRIC
) -> Figure:
    """A curve for each run (Conditional DETR, figure 2)."""
    figure = Figure(figsize=(7, 4.5), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, points in runs.items():
        steps, values = zip(*points)
        axes.plot(steps, values, marker='o', markersize=3, label=name)
    axes.set(xlabel='epoch', ylabel=metric, title='Convergence')
    axes.grid(alpha=0.3)
    figure.legend(loc='outside lower center', ncols=2, fontsize='small')
    return figure

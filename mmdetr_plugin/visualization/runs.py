"""Figures of training runs, from the files that MMEngine writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .charts import chart

METRIC = 'coco/bbox_mAP'
Points = Sequence[tuple[float, float]]


def read_scalars(work_dir: Path) -> list[dict[str, Any]]:
    """What a run has logged, its starts in order of time; a line that is not complete is left out."""
    entries = []
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text(encoding='utf-8').splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:  # the end of what a killed run wrote
                continue
    return [entry for entry in entries if isinstance(entry, dict) and 'step' in entry]


def values_of(entries: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """(step, value) of all entries with a value; resumed runs are one run, the latest value counts."""
    found = {float(entry['step']): float(entry[name]) for entry in entries if name in entry}
    return sorted(found.items())


def metrics_of(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the evaluators' values, e.g. ``coco/bbox_mAP``."""
    return sorted({name for entry in entries for name in entry if '/' in name})


def read_run(work_dir: Path, metric: str = METRIC) -> list[tuple[float, float]]:
    """(step, value) of every evaluation of a run.

    Raises:
        ValueError: the run has no value of that name; the message lists those that it has.
    """
    entries = read_scalars(work_dir)
    found = values_of(entries, metric)
    if not found:
        names = metrics_of(entries)
        raise ValueError(
            f'a work dir must hold evaluations of {metric}, got none in {work_dir}; '
            + (f'it has {names}' if names else 'name the folder that training wrote')
        )
    return found


def curves_figure(runs: Mapping[str, Points], metric: str = METRIC) -> Figure:
    """A curve for each run (Conditional DETR, figure 2)."""
    return _lines('Convergence', 'epoch', metric, runs, marker='o', markersize=3)


def metrics_figure(runs: Mapping[str, Points]) -> Figure:
    """The values of a run's evaluations, by name."""
    figure = _lines('Evaluations', 'epoch', 'score', runs, marker='o', markersize=4)
    figure.axes[0].set(ylim=(0, 1))
    figure.axes[0].set_xlim(left=0)
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    return figure


def losses_figure(losses: Mapping[str, Points]) -> Figure:
    """Losses against steps, by name; faint as logged, bold as a running mean."""
    figure, axes = chart('Training losses', 'step', 'loss')
    for i, (name, points) in enumerate(losses.items()):
        steps, values = np.array(points).T
        window = max(1, len(values) // 20)
        sums = np.cumsum(np.insert(values, 0, 0.0))
        ends = np.arange(1, len(values) + 1)
        begins = np.maximum(0, ends - window)
        means = (sums[ends] - sums[begins]) / (ends - begins)
        axes.plot(steps, values, color=f'C{i}', lw=0.6, alpha=0.35)
        axes.plot(steps, means, color=f'C{i}', lw=1.6, label=name)
    if all(value > 0 for points in losses.values() for _, value in points):
        axes.set_yscale('log')
    figure.legend(loc='outside lower center', ncols=2, fontsize='small')
    return figure


def rate_figure(points: Points) -> Figure:
    """The learning rate against steps."""
    return _lines('Learning rate', 'step', 'learning rate', {'': points})


def _lines(
    title: str, xlabel: str, ylabel: str, lines: Mapping[str, Points], **style: Any
) -> Figure:
    figure, axes = chart(title, xlabel, ylabel)
    for name, points in lines.items():
        axes.plot(*zip(*points), label=name, **style)
    if any(lines):
        figure.legend(loc='outside lower center', ncols=2, fontsize='small')
    return figure

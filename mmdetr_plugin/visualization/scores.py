"""Figures of an evaluation: decoder layers, precision and recall, errors, AP by size and class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..evaluation.boxes import SIZES, BoxEvaluation
from ..evaluation.errors import ErrorBreakdown
from .charts import chart

if TYPE_CHECKING:
    from ..inference.validation import Validation

FEW = 10
"""The largest number of classes that all get a colour; of more, the best and the worst do."""


def layer_scores(validation: Validation) -> dict[str, list[float]]:
    """AP and AP50 after each decoder layer, as it is and with non-maximum suppression."""
    scores: dict[str, list[float]] = {}
    for name, iou in (('AP', None), ('AP50', 0.5)):
        for suffix, suppressed in (('', False), (', NMS', True)):
            scores[name + suffix] = [
                validation.evaluation(layer, suppressed).ap(iou)
                for layer in range(len(validation.layers))
            ]
    return scores


def layers_figure(scores: Mapping[str, Sequence[float]]) -> Figure:
    """A line of scores after each decoder layer for each name (DETR, figure 4)."""
    figure, axes = chart('After each decoder layer', 'decoder layer', 'score')
    for i, (name, values) in enumerate(scores.items()):
        layers = np.arange(1, len(values) + 1)
        line = '--' if 'NMS' in name else '-'
        axes.plot(layers, values, line, color=f'C{i // 2}', marker='o', markersize=4, label=name)
    axes.set_xticks(layers)
    _below(figure, len(scores))
    return figure


def precision_figure(evaluation: BoxEvaluation) -> Figure:
    """Precision against recall of each class, and of their mean, at IoU 0.5."""
    recall, precision = evaluation.curves()
    known = np.flatnonzero(~np.isnan(precision).all(1))
    areas = precision[known].mean(1)
    order = known[np.argsort(-areas, kind='stable')]
    named = order if len(order) <= FEW else np.concatenate([order[:3], order[-3:]])
    figure, axes = chart('Precision and recall at IoU 0.5', 'recall', 'precision')
    for label in order:
        name = f'{evaluation.classes[label]}  {precision[label].mean():.2f}'
        if label in named:
            axes.plot(recall, precision[label], lw=1.2, label=_short(name))
        else:
            axes.plot(recall, precision[label], lw=0.6, color='0.8', zorder=1)
    mean = precision[known].mean(0)
    axes.plot(recall, mean, color='black', lw=2.2, label=f'mean  {mean.mean():.2f}')
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    figure.legend(
        loc='outside right upper', fontsize='small', title='class  AP50', title_fontsize='small'
    )
    return figure


def errors_figure(errors: ErrorBreakdown) -> Figure:
    """What each kind of error costs (TIDE, figure 1): by how much AP50 rises without it."""
    figure, axes = chart(f'Errors, AP50 {errors.ap50:.3f}', 'AP50 gained without them', '')
    _bars(
        axes, {f'{kind}\n({errors.counts[kind]:,})': x for kind, x in errors.costs.items()}, '.3f'
    )
    return figure


def sizes_figure(evaluation: BoxEvaluation) -> Figure:
    """AP of small, medium and large objects."""
    values = {size: evaluation.ap(size=size) for size in SIZES}
    figure, axes = chart('AP by size', 'AP', '')
    _bars(axes, values, '.3f')
    axes.set_xlim(0, 1)
    return figure


def classes_figure(evaluation: BoxEvaluation) -> Figure:
    """AP of each class; of many classes the best and the worst."""
    counts = evaluation.counts()
    values = {
        f'{_short(name)} ({counts[i]})': evaluation.ap(label=i)
        for i, name in enumerate(evaluation.classes)
        if counts[i]
    }
    title = 'AP by class (objects)'
    if len(values) > 2 * FEW:
        ranked = sorted(values, key=lambda name: -values[name])
        values = {name: values[name] for name in [*ranked[:FEW], *ranked[-FEW:]]}
        title = f'AP of the {FEW} best and worst classes (objects)'
    figure, axes = chart(title, 'AP', '', height=1.5 + 0.25 * len(values))
    _bars(axes, values, '.2f')
    axes.set_xlim(0, 1)
    return figure


def _bars(axes: Axes, values: Mapping[str, float], form: str) -> None:
    """A horizontal bar for each value, the first one on top; none for values that are not defined."""
    numbers = np.nan_to_num(np.array([*values.values()]))
    places = np.arange(len(values))
    axes.barh(places, numbers, color='tab:blue', height=0.7)
    axes.set_yticks(places, [*values])
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.invert_yaxis()
    axes.grid(visible=False, axis='y')
    left, right = min(0.0, numbers.min()), max(numbers.max(), 1e-3)
    axes.set_xlim(left, left + 1.2 * (right - left))
    for place, value in zip(places, values.values()):
        text = 'none' if np.isnan(value) else f'{value:{form}}'
        x = max(0.0, 0.0 if np.isnan(value) else value)
        axes.annotate(
            text, (x, float(place)), (3, 0), textcoords='offset points', va='center', size=8
        )


def _below(figure: Figure, number: int) -> None:
    figure.legend(loc='outside lower center', ncols=2 if number > 1 else 1, fontsize='small')


def _short(name: str, letters: int = 24) -> str:
    return name if len(name) <= letters else f'{name[: letters - 1]}…'

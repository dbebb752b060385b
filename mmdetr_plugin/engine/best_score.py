"""The score that decides which checkpoint is the best: a mean over classes and data sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

MEANS = re.compile(r'(?:^|/)((?:bbox_|segm_|proposal_)?mAP|PQ|AP|mIoU)$')
"""Names that evaluators give the mean over classes."""


def mean_score(
    metrics: Mapping[str, float], classes: Iterable[str] = ()
) -> tuple[str | None, float]:
    """Name and value of the score to compare checkpoints by.

    It is the first mean over classes among the metrics. Where several data sets are evaluated, each
    with its prefix, it is the mean of theirs and is called ``mean/...``. Metrics of single classes are
    taken only if there is nothing else.

    Args:
        metrics: what the evaluators return, in their order.
        classes: names of the classes.
    """
    names = [name for name in metrics if MEANS.search(name)]
    if not names:
        own = {f'{word}' for word in classes}
        names = [n for n in metrics if not _of_a_class(n.rsplit('/', 1)[-1], own)] or [*metrics]
    if not names:
        return None, float('nan')
    first = names[0]
    last = first.rsplit('/', 2)[-2:]
    same = [name for name in names if name.rsplit('/', 2)[-2:] == last and name.count('/') > 1]
    if len(same) > 1:
        values = [float(metrics[name]) for name in same]
        return f'mean/{last[-1]}', sum(values) / len(values)
    return first, float(metrics[first])


def _of_a_class(name: str, classes: set[str]) -> bool:
    """Whether a metric is that of a class: ``cat``, ``cat_precision``."""
    return name in classes or name.rpartition('_')[0] in classes

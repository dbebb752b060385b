"""Warnings of the matching, counted and logged rarely instead of in every training step."""

import logging
from collections.abc import Sequence

import numpy as np
from mmengine.logging import print_log

from ..structures.targets import DEGENERATE
from .sources import Matches


class CountedWarning:
    """Logs the 1st, 10th, 100th ... occurrence of a warning, with the number of cases so far."""

    def __init__(self) -> None:
        self.occurrences = 0
        self.cases = 0

    def __call__(self, message: str, cases: int) -> None:
        self.occurrences += 1
        self.cases += cases
        if str(self.occurrences).strip('0') == '1':  # a power of ten
            print_log(
                f'{message} ({self.cases} so far; the {self.occurrences}. warning of this '
                f'kind, shown again at the {10 * self.occurrences}.)',
                logger='current',
                level=logging.WARNING,
            )


class MatchingNotices:
    """Warnings of one assigner; ``max_nonfinite_steps`` faulty steps in a row are tolerated."""

    def __init__(self, max_nonfinite_steps: int) -> None:
        self.max_nonfinite_steps = max_nonfinite_steps
        self.nonfinite_steps = 0
        self._nonfinite = CountedWarning()
        self._degenerate = CountedWarning()
        self._unmatched = CountedWarning()

    def end_step(self, where: Sequence[str]) -> None:
        """Note whether a step had non-finite costs; raise FloatingPointError after too many."""
        self.nonfinite_steps = self.nonfinite_steps + 1 if where else 0
        if self.nonfinite_steps > self.max_nonfinite_steps:
            raise FloatingPointError(
                f'predictions must be finite, got NaN or infinity in {self.nonfinite_steps} steps '
                f'in a row, now in {_some(where)}; lower the learning rate, train without fp16 '
                '(--amp), or look at these images and their boxes'
            )
        if where:
            self.nonfinite(where)

    def nonfinite(self, where: Sequence[str]) -> None:
        """Warn of the layers, images and terms whose costs were not finite."""
        self._nonfinite(
            f'NaN or infinite matching costs in {_some(where)}: objects went to finite queries',
            len(where),
        )

    def degenerate(self, status: np.ndarray, image_names: Sequence[str]) -> None:
        """Count boxes without an area in ``status`` (B, T)."""
        counts = (status == DEGENERATE).sum(1)
        if counts.any():
            self._degenerate(
                f'boxes must have a width and a height above 0: dropped {counts.sum()}, '
                f'{counts.max()} of them in {image_names[counts.argmax()]}',
                int(counts.sum()),
            )

    def unmatched(self, matches: Matches, image_names: Sequence[str]) -> None:
        """Count the objects no query was left for."""
        if matches.unmatched:
            fullest = int(np.argmax(matches.objects))
            self._unmatched(
                f'{image_names[fullest]} has {matches.objects[fullest]} objects, more than the '
                f'{matches.num_queries} queries: {matches.unmatched} objects of this batch are '
                'left without a query; raise num_queries',
                matches.unmatched,
            )


def _some(items: Sequence[str], most: int = 3) -> str:
    rest = f'; and {len(items) - most} more' if len(items) > most else ''
    return '; '.join(items[:most]) + rest

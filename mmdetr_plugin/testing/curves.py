"""Learning curves of several runs in one file, which is written after every evaluation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from .runs import write_json

Point = dict[str, float]
"""An evaluation: ``epoch`` (from 1), ``ap``, ``ap50``."""
Curve = Sequence[Mapping[str, float]]
"""Evaluations in order."""


class Curves:
    """The curves of one file.

    Args:
        path: the JSON file; its content is read if it exists.
        settings: those of all curves in the file.

    Raises:
        ValueError: the file was made with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, float]) -> None:
        self.path, self.settings = path, dict(settings)
        self.curves: dict[str, list[Point]] = {}
        if not path.is_file():
            return
        content = json.loads(path.read_text())
        if content['settings'] != self.settings:
            raise ValueError(
                f'curves in one file must share their settings, {path} has {content["settings"]}, '
                f'got {self.settings}; repeat those, or name another --work-dir'
            )
        self.curves = content['curves']

    def of(self, name: str) -> list[Point]:
        """The curve of a run, empty at first."""
        return self.curves.setdefault(name, [])

    def reaches(self, name: str, epoch: int) -> bool:
        """Whether a run was evaluated after ``epoch`` epochs or more."""
        curve = self.of(name)
        return bool(curve) and curve[-1]['epoch'] >= epoch

    def add(self, name: str, point: Point) -> None:
        """Add an evaluation to a curve, drop those that it repeats, and write the file."""
        curve = self.of(name)
        curve[:] = [old for old in curve if old['epoch'] < point['epoch']] + [point]
        self.write()

    def write(self) -> None:
        write_json(self.path, {'settings': self.settings, 'curves': self.curves})


class Record(Hook):
    """Passes each evaluation to ``save``; stops before an epoch that would end after ``deadline``.

    Args:
        save: called with a point after every validation.
        deadline: in seconds, as ``time.time()`` counts them.
    """

    priority = 'LOWEST'

    def __init__(self, save: Callable[[Point], None], deadline: float) -> None:
        self.save, self.deadline = save, deadline
        self.begun = time.time()
        self.out_of_time = False

    def before_train_epoch(self, runner: Runner) -> None:
        self.begun = time.time()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        assert metrics is not None  # MMEngine passes them after a validation
        names = {'ap': 'coco/bbox_mAP', 'ap50': 'coco/bbox_mAP_50'}
        self.save({'epoch': runner.epoch, **{k: metrics[name] for k, name in names.items()}})
        now = time.time()
        if runner.epoch < runner.max_epochs and now + (now - self.begun) > self.deadline:
            self.out_of_time = runner.train_loop.stop_training = True

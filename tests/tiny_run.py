"""Training runs that take a second: a shrunk detector with dropout on a few small digit pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tiny
import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner

from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.registry import METRICS

SIZE = 64  # pixels
DIFFER = re.compile(r'time|memory|experiment_name|version|cfg|/(best|last)_ckpt$')
"""Entries of a checkpoint that name the run and its folder, or measure it."""


@METRICS.register_module()
class MeanScore(BaseMetric):
    """What a model says before it finds anything, so that every epoch has a value of its own."""

    def process(self, data_batch: object, data_samples: list[dict]) -> None:
        self.results += [
            sample['pred_instances']['scores'].mean().item() for sample in data_samples
        ]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {'mean_score': sum(results) / len(results)}


class BeforeStep(Hook):
    """Calls a function with the runner and the batch before each training step."""

    def __init__(self, act: Callable[[Runner, dict], None]) -> None:
        self.act = act

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        self.act(runner, data_batch)


def make_data(root: Path) -> Path:
    """Eight training and two validation pictures."""
    make_digits(root, num_train=8, num_val=2, size=SIZE)
    return root


def full_size(name: str) -> ConfigDict:
    """The model of a config as it is, for digits, without weights of its backbone."""
    model = tiny.load(name).model
    model.num_classes = 10
    model.backbone.init_cfg = None
    return model


def config(data: Path, work_dir: Path, epochs: int = 4, workers: int = 0) -> Config:
    """Two steps an epoch, validation after each, random augmentation, dropout, EMA."""
    cfg = tiny.load('digits_deformable_detr')
    cfg.model = tiny.shrink(cfg.model, num_classes=10, dropout=0.1)
    # Else formatting the config's text, which is in every checkpoint, takes most of the time.
    object.__setattr__(cfg, '_format_python_code', False)
    cfg.work_dir = str(work_dir)
    cfg.randomness = {'seed': 5}
    cfg.log_level = 'WARNING'
    cfg.train_cfg.update(max_epochs=epochs, val_interval=1)
    cfg.param_scheduler[0].end = 3
    cfg.param_scheduler[1].T_max = 4
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.update(save_best='mean_score', rule='greater')
    cfg.custom_hooks = [*cfg.custom_hooks, {'type': 'EMAHook', 'momentum': 0.1}]
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    for loader, number in zip(loaders, (workers, 0, 0)):
        loader.update(batch_size=4, num_workers=number, persistent_workers=number > 0)
        loader.dataset.data_root = f'{data}/'
        for step in loader.dataset.pipeline:
            if step['type'] == 'Resize':
                step['scale'] = (SIZE, SIZE)
            if step['type'] == 'FilterAnnotations':
                step['min_gt_bbox_wh'] = (1, 1)
    cfg.val_evaluator = cfg.test_evaluator = {'type': 'mmdetr_plugin.MeanScore'}
    return cfg


def train(cfg: Config, name: str, *hooks: Hook) -> Runner:
    """Runs of one process share their records unless they have names of their own."""
    cfg.experiment_name = cfg.visualizer.name = name
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


def different(ours: object, theirs: object, path: str = '') -> Iterator[str]:
    """Where two checkpoints differ, times aside."""
    if DIFFER.search(path):
        return
    if isinstance(ours, HistoryBuffer):
        ours, theirs = list(ours.data), list(theirs.data)
    if isinstance(ours, dict):
        if ours.keys() != theirs.keys():
            yield f'{path}: {sorted(map(str, ours.keys() ^ theirs.keys()))}'
        for key in ours.keys() & theirs.keys():
            yield from different(ours[key], theirs[key], f'{path}/{key}')
    elif isinstance(ours, (list, tuple)):
        if len(ours) != len(theirs):
            yield f'{path}: {len(ours)} and {len(theirs)} entries'
        for i, (one, other) in enumerate(zip(ours, theirs)):
            yield from different(one, other, f'{path}/{i}')
    elif isinstance(ours, torch.Tensor):
        if not torch.equal(ours, theirs):
            yield path
    elif not np.array_equal(ours, theirs):
        yield path

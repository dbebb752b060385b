"""Training runs that take a second: a shrunk detector with dropout on a few small digit pictures."""

from __future__ import annotations

from pathlib import Path

import tiny
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.registry import METRICS

SIZE = 64  # pixels


@METRICS.register_module()
class MeanScore(BaseMetric):
    """What a model says before it finds anything, so that every epoch has a value of its own."""

    def process(self, data_batch: object, data_samples: list[dict]) -> None:
        self.results += [
            sample['pred_instances']['scores'].mean().item() for sample in data_samples
        ]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {'mean_score': sum(results) / len(results)}


def make_data(root: Path) -> Path:
    """Eight training and two validation pictures."""
    make_digits(root, num_train=8, num_val=2, size=SIZE)
    return root


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
    cfg.experiment_name = name
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner

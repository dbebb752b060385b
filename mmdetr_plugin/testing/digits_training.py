"""Training small variants on the digits set under equal conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config, ConfigDict

from ..engine.project import config_path
from .variants import small


@dataclass(frozen=True)
class DigitsTraining:
    """Settings of a training on the digits set that are equal for all variants.

    Attributes:
        data: folder of the digits set.
        work_dir: folder that gets a subfolder with the name of the variant.
        epochs, interval: length, and epochs between evaluations.
        images: training images per epoch.
        size: side of the pictures in pixels.
        lr: learning rate of the transformer.
        workers: loading processes; None = as in the demo.
        backbone: frozen weights of the backbone of every variant; None = trained from scratch.
    """

    data: Path
    work_dir: Path
    epochs: int
    interval: int
    images: int
    size: int
    lr: float
    seed: int
    workers: int | None = None
    backbone: Path | None = None

    def config(self, name: str) -> Config:
        """The config that trains the small variant of our config ``name``."""
        cfg = small(Config.fromfile(config_path(name)))
        root = f'{self.data}/'
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.dataset.data_root = root
            resize(loader.dataset.pipeline, self.size)
            if self.workers is not None:
                loader.update(num_workers=self.workers, persistent_workers=self.workers > 0)
        if self.backbone is not None:
            start_from(cfg.model, self.backbone)
        cfg.optim_wrapper.optimizer.lr = self.lr
        cfg.train_dataloader.dataset.indices = self.images
        cfg.val_evaluator.ann_file = f'{root}annotations/val.json'
        cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
        cfg.train_cfg = ConfigDict(
            type='EpochBasedTrainLoop', max_epochs=self.epochs, val_interval=self.interval
        )
        cfg.param_scheduler[1].T_max = self.epochs
        cfg.default_hooks.checkpoint = ConfigDict(
            type='CheckpointHook', interval=1, max_keep_ckpts=1
        )
        cfg.work_dir = str(self.work_dir / name)
        cfg.randomness = ConfigDict(seed=self.seed)
        cfg.resume = True
        return cfg


def demo_config(config: str | Path, data: Path, work_dir: Path, epochs: int | None) -> Config:
    """A config of the digits set for other folders.

    Args:
        config: its path.
        data: folder of the digits set.
        work_dir: folder of the run.
        epochs: number of epochs; None = as the config says.
    """
    cfg = Config.fromfile(config)
    cfg.work_dir = str(work_dir)
    cfg.randomness = {'seed': 0}
    if epochs is not None:
        cfg.merge_from_dict(
            {
                'train_cfg.max_epochs': epochs,
                'train_cfg.val_interval': epochs,
                'param_scheduler.1.T_max': epochs,
            }
        )
    root = f'{data}/'
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = root
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = f'{root}annotations/val.json'
    return cfg


def resize(pipeline: Sequence[ConfigDict], size: int) -> None:
    """Resize images to ``size`` pixels, and the smallest box that is kept in proportion."""
    for step in pipeline:
        if step['type'] == 'Resize':
            before, step['scale'] = step['scale'][0], (size, size)
        elif step['type'] == 'FilterAnnotations':
            step['min_gt_bbox_wh'] = tuple(side * size / before for side in step['min_gt_bbox_wh'])


def start_from(model: ConfigDict, path: Path) -> None:
    """Load these weights into the backbone and freeze it; a single map is then read at stride 8."""
    backbone, reader = model.backbone, model.decoder.layer.cross_attn
    backbone.init_cfg = ConfigDict(type='Pretrained', checkpoint=str(path))
    backbone.update(frozen_stages=backbone.num_stages, norm_eval=True)
    if backbone.num_stages == 3:
        backbone.update(strides=(1, 2, 1), dilations=(1, 1, 2))
        if reader.get('prior'):
            reader.prior.strides = (8,)

"""From a config and a checkpoint to a model that predicts."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from torch import nn

from ..checkpoints import unwrap
from ..checkpoints.addresses import register_safe_loader
from ..checkpoints.class_names import coco_names, names_beside, stated_names
from ..checkpoints.loading import weights_for
from ..checkpoints.pretrained import fetch_nothing_
from ..datasets.completion import dataset_classes
from ..datasets.image_size import set_image_size
from ..datasets.presence import annotated_datasets
from ..detector import DETR
from ..engine.project import config_path
from ..registry import MODELS
from .predictor import Predictor

Names = tuple[str, ...]


def load(
    config: str | Path | Config,
    checkpoint: str | Path,
    device: str | torch.device | None = None,
    classes: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    tta: bool = False,
) -> Predictor:
    """A model that predicts on images.

    Args:
        config: a config, its path, or the name of one of this project, e.g. ``detr_r50``.
        checkpoint: path or address of weights that belong to it, in any layout of docs/migrate.md.
        device: e.g. ``cpu`` or ``cuda:0``; None = a GPU if there is one.
        classes: names of all classes in the order of the labels; None = those that the checkpoint
            states, or else the data set of the config.
        options: values that replace those of the config, e.g. ``{'model.test_cfg.max_per_img': 300}``.
        tta: predict from the variants of an image that ``tta_pipeline`` of the config makes, and merge
            by its ``tta_model``.

    Raises:
        FileNotFoundError: there is no such config or checkpoint.
        ValueError: the file is no checkpoint, belongs to another model, or its classes do not fit.
    """
    cfg = read_config(config)
    cfg.merge_from_dict(dict(options or {}))
    set_image_size(cfg)
    register_safe_loader()
    weights = CheckpointLoader.load_checkpoint(str(checkpoint), map_location='cpu')
    stated = stated_names(weights) or names_beside(str(checkpoint))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
        names = _class_names(cfg, stated, classes)
        model = build_model(cfg, len(names))
        try:
            # Names that are given may be new ones: the rows are the checkpoint's all the same.
            fill(model, weights, stated, names if classes is None else None)
        except ValueError as error:
            owner = (cfg.filename or 'the config') if isinstance(config, Config) else config
            raise ValueError(f'{checkpoint} must be a checkpoint of {owner}: {error}') from error
        # Where mmdet's own functions look for them.
        model.cfg, model.dataset_meta = cfg, {'classes': names, 'palette': 'random'}
        pipeline = get_test_pipeline_cfg(cfg)
        if tta:
            model, pipeline = augmented(cfg, model)
        return Predictor(_move(model, device or get_device()).eval(), pipeline, names)


def read_config(config: str | Path | Config) -> Config:
    """A copy of a config, from its path or by its name.

    Raises:
        FileNotFoundError: there is no such config.
    """
    if isinstance(config, Config):
        return copy.deepcopy(config)
    path = Path(config)
    if not path.is_file():
        path = config_path(path.as_posix().removesuffix('.py'))
    return Config.fromfile(path)


def build_model(cfg: Config, num_classes: int) -> BaseModel:
    """The model of a config without what only training needs."""
    model = cfg.model
    if 'num_classes' in model and model.num_classes is None:
        model.num_classes = num_classes
    if 'backbone' in model:
        fetch_nothing_(model.backbone)
    if model.get('teacher'):
        model.teacher = None
    return MODELS.build(model)


def fill(
    model: nn.Module,
    checkpoint: Mapping,
    stated: Sequence[str | None] | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Copy the weights of a checkpoint into ``model``.

    Args:
        stated: class names of the checkpoint.
        names: those of the model; None = those of the checkpoint, in its order.

    Raises:
        ValueError: a part of the model has no weights in it, or it has others.
    """
    if isinstance(model, DETR):
        target = names if names and len(names) == model.num_classes else None
        state, plan = weights_for(model, checkpoint, stated, target, start=False)
        plan.check_complete()
    else:
        state = unwrap(checkpoint)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def _move(model: BaseModel, device: str | torch.device) -> BaseModel:
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f'device must be one that torch can use here, got {device} ({error}); take cpu'
        ) from error


def augmented(cfg: Config, model: BaseModel) -> tuple[BaseModel, list]:
    """The model around ``model`` that merges augmented predictions, and its pipeline.

    Raises:
        ValueError: the config has none.
    """
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        raise ValueError(
            'test-time augmentation needs tta_model and tta_pipeline in the config '
            '(mmdet.DetTTAModel), got a config without them; add them, or leave it out'
        )
    return MODELS.build(ConfigDict(**cfg.tta_model, module=model)), cfg.tta_pipeline


def _class_names(
    cfg: Config, stated: Sequence[str | None] | None, given: Sequence[str] | None
) -> Names:
    """A name for each class: those given, of the checkpoint, of the config's data, or COCO's."""
    number = cfg.model.get('num_classes')
    if given is not None:
        if isinstance(given, str) or number not in (None, len(given)):
            raise ValueError(
                f'classes must be a list of the names of all {number} classes of the model in the '
                f'order of its labels, got {given!r}; correct it, or leave it out'
            )
        return tuple(given)
    candidates = [stated, _data_names(cfg), coco_names(number) if number else None]
    for names in candidates:
        if names and number in (None, len(names)):
            return tuple(name or f'class {i}' for i, name in enumerate(names))
    if number is None:
        raise ValueError(
            'model.num_classes of the config is None, and neither the checkpoint nor the data says '
            'which classes there are; state them (classes=...), or take the config that training '
            'left in its work dir'
        )
    return tuple(f'class {i}' for i in range(number))


def _data_names(cfg: Config) -> Sequence[str] | None:
    for split in ('test', 'val', 'train'):
        for key, dataset in annotated_datasets(cfg, split):
            names = dataset_classes(key, dataset, annotated=False)
            if names:
                return names
    return None

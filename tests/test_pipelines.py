"""The pipelines of every config, from a file with boxes to what the model gets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import mmcv
import numpy as np
import pytest
import tiny
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmdetr_plugin.datasets.image_loading import checked_step
from mmdetr_plugin.datasets.presence import annotated_datasets
from mmdetr_plugin.registry import TRANSFORMS

SIZE = (90, 120)  # height, width


def pipelines(cfg: Config) -> Iterator[list[dict]]:
    """Of boxes: of the three splits, and those that hooks switch to."""
    for split in ('train', 'val', 'test'):
        for _, dataset in annotated_datasets(cfg, split):
            if 'Panoptic' not in dataset.type:
                yield dataset.pipeline
    for hook in cfg.get('custom_hooks') or ():
        if 'switch_pipeline' in hook:
            yield hook.switch_pipeline


CHOSEN = (
    *('detr_r50', 'tsp_fcos_r50', 'rt_detr_r18', 'rtdetrv2_r34', 'd_fine_s', 'deim_d_fine_s'),
    *('lw_detr_tiny', 'rf_detr_nano', 'digits_dino'),
    *('finetune/dino_r50_12e', 'finetune/d_fine_s_12e', 'finetune/rf_detr_small_12e'),
)
"""One config for each kind of data."""

EVERY = pytest.param((*tiny.CONFIGS, *tiny.FINETUNE), marks=pytest.mark.exhaustive, id='all')


@pytest.mark.parametrize('names', [pytest.param(CHOSEN, id='chosen'), EVERY])
def test_pipelines_run(names: tuple[str, ...], tmp_path: Path) -> None:
    """Also where their random choices fall differently, on 8 bits and on 16."""
    different = {str(p): (name, p) for name in names for p in pipelines(tiny.load(name))}
    noise = np.random.default_rng(0)
    files = {}
    for name, kind, scale in (('8.png', np.uint8, 1), ('16.png', np.uint16, 257)):
        pixels = noise.integers(0, 256, (*SIZE, 3)).astype(kind) * kind(scale)
        mmcv.imwrite(pixels, str(tmp_path / name))
        files[name] = str(tmp_path / name)
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        for name, pipeline in different.values():
            steps = [TRANSFORMS.build(checked_step(dict(step))) for step in pipeline]
            for seed, path in enumerate([*files.values()] * 3):
                random.seed(seed)
                np.random.seed(seed)
                packed = Compose(steps)(record(path))
                if packed is None:  # a crop without objects is drawn again by the data set
                    continue
                image, shape = packed['inputs'], packed['data_samples'].img_shape
                assert image.dtype in (torch.uint8, torch.float32), name
                assert tuple(image.shape) == (3, *shape[:2]), name
                assert image.float().std() > 10, name


def record(path: str) -> dict:
    """A picture with two objects, as a COCO data set gives it."""
    height, width = SIZE
    box = {'ignore_flag': 0, 'mask': []}
    instances = [
        {**box, 'bbox': [10.0, 10.0, 70.0, 60.0], 'bbox_label': 1},
        {**box, 'bbox': [50.0, 30.0, 100.0, 80.0], 'bbox_label': 3},
    ]
    return {'img_path': path, 'img_id': 1, 'height': height, 'width': width, 'instances': instances}

"""Random images and objects, and the precisions, of the benchmarks that run whole models."""

from __future__ import annotations

import argparse

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor

from ..detector import DETR
from ..ops.folding import fold_norms_

Size = tuple[int, int]
NUM_CLASSES = 80
PRECISIONS = {'fp32': None, 'fp16': torch.float16, 'bf16': torch.bfloat16}
"""The dtype of autocast; None = no autocast."""


def images(batch: int, size: Size, device: str) -> Tensor:
    """(B, 3, H, W), normalised noise."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, *size, generator=generator).to(device)


def samples(
    batch: int, size: Size, objects: int, device: str | torch.device
) -> list[DetDataSample]:
    """Samples of images of (height, width) ``size`` with objects of up to 0.3 of its extent, away from
    the border: transformers cuts the boxes that D-FINE predicts there."""
    generator = torch.Generator().manual_seed(1)
    height, width = size
    out = []
    for i in range(batch):
        corner = 0.1 + 0.5 * torch.rand(objects, 2, generator=generator)
        extent = 0.02 + 0.28 * torch.rand(objects, 2, generator=generator)
        boxes = torch.cat((corner, corner + extent), 1) * torch.tensor([width, height] * 2)
        labels = torch.randint(0, NUM_CLASSES, (objects,), generator=generator)
        meta = {'img_shape': size, 'ori_shape': size, 'batch_input_shape': size}
        sample = DetDataSample(metainfo={**meta, 'scale_factor': (1.0, 1.0), 'img_id': i})
        sample.gt_instances = InstanceData(bboxes=boxes.to(device), labels=labels.to(device))
        out.append(sample)
    return out


def tested_size(cfg: Config) -> Size:
    """(height, width) of a picture of 3 : 4 as the test pipeline of a config resizes it."""
    step = next(s for s in cfg.test_dataloader.dataset.pipeline if s['type'].endswith('Resize'))
    width, height = step['scale']
    if not step.get('keep_ratio'):
        return height, width
    short, long = sorted((height, width))
    return short, min(long, short * 4 // 3)


def add_small(options: argparse.ArgumentParser) -> None:
    """Add the option ``--small``, by which tests run the scripts quickly."""
    options.add_argument('--small', action='store_true', help='thin and shallow models: a test')


def configure_(ours: DETR) -> DETR:
    """Fold the norms of our model and use channels-last, also if it has mmdet's backbone (DC5)."""
    fold_norms_(ours.backbone)  # does nothing where they are folded already
    ours.backbone.to(memory_format=torch.channels_last)
    return ours

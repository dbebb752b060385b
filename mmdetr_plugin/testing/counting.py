"""Trainable parameters and multiply-accumulates of a config, counted as the papers do."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..arguments import SlotError
from ..registry import MODELS


def build_shapes(model: Mapping[str, Any]) -> nn.Module:
    """The model of a config, whose parameters have shapes but no values."""
    try:
        with torch.device('meta'):
            return MODELS.build(copy.deepcopy(model))  # mmdet's detectors write into theirs
    except SlotError as error:
        if not isinstance(error.__cause__, RuntimeError):
            raise
        # A backbone computes with values, as mmdet's Swin does.
        return MODELS.build(copy.deepcopy(model)).to('meta')


@dataclass(frozen=True)
class Count:
    """Trainable parameters, and multiply-accumulates of one image: the total, and of each part."""

    parameters: int
    macs: int
    parts: dict[str, int]


def count(path: str | Path, height: int, width: int, num_classes: int | None = None) -> Count:
    """Count a config: on shapes alone if every operator supports that, else by running the model."""
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    if num_classes is not None:
        cfg.model.num_classes = num_classes
    try:
        return _count(cfg, height, width, 'meta')
    # RoIAlign and NMS need values. Any other error comes again, and is raised then.
    except RuntimeError:
        return _count(cfg, height, width, 'cpu')


@torch.no_grad()
def _count(cfg: Config, height: int, width: int, device: str) -> Count:
    model = build_shapes(cfg.model) if device == 'meta' else MODELS.build(cfg.model)
    model.eval()
    with torch.device(device):
        images = torch.zeros(1, 3, height, width)
    samples = [DetDataSample(metainfo={'img_shape': (height, width), 'ori_shape': (height, width)})]
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # The counter trips over views of parameters that want a gradient.
    model.requires_grad_(False)
    counter = FlopCounterMode(depth=2, display=False)
    # Only the plain kernel shows its matrix products to the counter.
    with torch.device(device), counter, sdpa_kernel(SDPBackend.MATH):
        model(images, samples, mode='predict')
    prefix = f'{type(model).__name__}.'
    parts = {
        name.removeprefix(prefix): sum(flops.values()) // 2
        for name, flops in counter.get_flop_counts().items()
        if name.startswith(prefix) and name.count('.') == 1
    }
    return Count(parameters, counter.get_total_flops() // 2, parts)

#!/usr/bin/env python3
"""Trainable parameters and multiply-accumulates of configs.

    python tools/count.py configs/detr_*.py --size 800 1128

Counted as the papers do: parameters without the frozen stem and first stage, one multiply-accumulate as
one FLOP, convolutions and matrix products (attention included) of one image; the bilinear sampling of
deformable attention is not a matrix product and is not counted. What is counted is a detection: parts
that only the losses need are not run. No weights are needed or loaded.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmdetr_plugin.registry import MODELS


@dataclass(frozen=True)
class Count:
    """Trainable parameters, and multiply-accumulates of one image in all and by part."""

    parameters: int
    macs: int
    parts: dict[str, int]


def count(path: str | Path, height: int, width: int, num_classes: int | None = None) -> Count:
    """Count a config, by shapes alone where every operator has them, else by running it."""
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    if num_classes is not None:
        cfg.model.num_classes = num_classes
    try:
        return _count(cfg, height, width, 'meta')
    except (NotImplementedError, RuntimeError):  # RoIAlign knows no shapes-only tensors
        return _count(cfg, height, width, 'cpu')


@torch.no_grad()
def _count(cfg: Config, height: int, width: int, device: str) -> Count:
    with torch.device(device):
        model = MODELS.build(cfg.model).eval()
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+')
    parser.add_argument('--size', nargs=2, type=int, default=(800, 1128), metavar=('H', 'W'))
    parser.add_argument(
        '--num-classes', type=int, help='replaces that of the config; 91 in the papers'
    )
    parser.add_argument('--parts', action='store_true', help='show the parts of the model too')
    args = parser.parse_args()
    print(
        f'{"config":<36} {"parameters, M":>14} {"GMACs":>8}   at 1x3x{args.size[0]}x{args.size[1]}'
    )
    for path in args.configs:
        found = count(path, *args.size, args.num_classes)
        print(f'{Path(path).stem:<36} {found.parameters / 1e6:14.3f} {found.macs / 1e9:8.1f}')
        if args.parts:
            for part, macs in found.parts.items():
                print(f'  {part:<34} {"":>14} {macs / 1e9:8.2f}')


if __name__ == '__main__':
    main()

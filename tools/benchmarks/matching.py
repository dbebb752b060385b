#!/usr/bin/env python3
"""Matching and losses of a training step: our criterion and mmdet's head on equal predictions.

    python tools/benchmarks/matching.py

Times the work from the predictions of all decoder layers to the losses (matching costs, assignment,
targets, losses), alone and with the backward pass.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmdet.registry import MODELS as MMDET
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.structures import Targets
from mmdetr_plugin.testing.benchmark import Contest, Result, parse, parser
from mmdetr_plugin.testing.inputs import NUM_CLASSES, samples
from mmdetr_plugin.testing.peers import mmdet_config, our_config

NAMES = ('deformable_detr_r50', 'detr_r50')


def predictions(shape: tuple[int, int, int], columns: int, device: str) -> tuple[Tensor, Tensor]:
    """Random logits (L, B, N, columns) and boxes (L, B, N, 4), cxcywh in 0..1, with gradients."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(*shape, columns, generator=generator) - 2
    boxes = 0.05 + 0.9 * torch.rand(*shape, 4, generator=generator)
    return logits.to(device).requires_grad_(), boxes.to(device).requires_grad_()


def criteria(name: str) -> tuple[Any, nn.Module, int]:
    """mmdet's head, our criterion and the number of class columns, as published."""
    cfg = mmdet_config(name).model
    head = MMDET.build({**cfg.bbox_head, 'train_cfg': cfg.train_cfg, 'test_cfg': cfg.test_cfg})
    ours = our_config(name).model.criterion
    criterion = MODELS.build({**ours, 'num_classes': NUM_CLASSES})
    return head, criterion, head.cls_out_channels


def of_peer(head: Any, logits: Tensor, boxes: Tensor, batch: list[DetDataSample]) -> Result:
    proposals = (None, None) if hasattr(head, 'as_two_stage') else ()
    objects = [sample.gt_instances for sample in batch]
    return head.loss_by_feat(logits, boxes, *proposals, objects, [s.metainfo for s in batch])


def of_ours(
    criterion: nn.Module, logits: Tensor, boxes: Tensor, batch: list[DetDataSample]
) -> Result:
    outputs = {'pred_logits': logits, 'pred_boxes': boxes}
    losses = criterion(outputs, Targets.from_samples(batch, NUM_CLASSES))
    return {name: value for name, value in losses.items() if 'loss' in name}


def step(forward: partial, logits: Tensor, boxes: Tensor) -> Result:
    """Losses and their gradients."""
    losses = forward()
    grads = torch.autograd.grad(sum(losses.values()), (logits, boxes))
    return {**losses, **dict(zip(('grad_logits', 'grad_boxes'), grads))}


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, repeats=15)
    options.add_argument('names', nargs='*', metavar='NAME', help=f'of {", ".join(NAMES)}')
    options.add_argument('--batch', type=int, default=8)
    options.add_argument('--layers', type=int, default=6)
    options.add_argument('--queries', type=int, default=300)
    options.add_argument('--objects', type=int, default=20, help='of every image')
    args = parse(options, argv)
    contest = Contest(args)
    for name in args.names or NAMES:
        head, criterion, columns = criteria(name)
        inputs = predictions((args.layers, args.batch, args.queries), columns, args.device)
        batch = samples(args.batch, (800, 1066), args.objects, args.device)
        runs = {
            'mmdet': partial(of_peer, head.to(args.device), *inputs, batch),
            'ours': partial(of_ours, criterion.to(args.device), *inputs, batch),
        }
        contest.compare(f'{name}, forward', runs)
        both = {who: partial(step, run, *inputs) for who, run in runs.items()}
        contest.compare(f'{name}, with backward', both)
    contest.finish()
    return 0


if __name__ == '__main__':
    sys.exit(main())

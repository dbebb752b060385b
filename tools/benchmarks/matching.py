#!/usr/bin/env python3
"""Matching and losses of a training step: our criterion and mmdet's head on equal predictions.

    python tools/benchmarks/matching.py

Times the work from the predictions of all decoder layers to the losses (matching costs, assignment,
targets, losses), alone and with the backward pass. For DINO that includes the denoising queries and the
selected proposals.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from mmdet.registry import MODELS as MMDET
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.structures import Branch, Outputs, Prediction, Proposals, Targets
from mmdetr_plugin.testing.benchmark import Contest, Result, parse, parser
from mmdetr_plugin.testing.inputs import NUM_CLASSES, samples
from mmdetr_plugin.testing.peers import mmdet_config, our_config

NAMES = ('deformable_detr_r50', 'detr_r50', 'dino_r50_mmdet')
DENOISING = 'dino_r50_mmdet'
NO_SOURCE = {'queries': {'type': 'LearnedBoxes', 'num_queries': 1}, 'num_classes': NUM_CLASSES}
Runs = tuple[dict[str, Callable[[], Result]], Sequence[Tensor]]


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


def dino_runs(shape: tuple[int, int, int], batch: list[DetDataSample], device: str) -> Runs:
    """mmdet's head and our criterion on predictions of noised and selected queries and of proposals.

    Args:
        shape: layers, images and selected queries; noised queries come in addition.
    """
    head, criterion, columns = criteria(DENOISING)
    source = MODELS.build({**our_config(DENOISING).model.branches[0], **NO_SOURCE})
    layout = source.layout(Targets.from_samples(batch, NUM_CLASSES))
    layers, images, number = shape
    inputs = [
        *predictions((layers, images, layout.size + number), columns, device),
        *(tensor[0].detach() for tensor in predictions((1, images, number), columns, device)),
    ]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    noised = {'num_denoising_queries': layout.size, 'num_denoising_groups': layout.groups}
    objects, metas = (
        [sample.gt_instances for sample in batch],
        [sample.metainfo for sample in batch],
    )
    head, criterion = head.to(device), criterion.to(device)

    def of_mmdet() -> Result:
        return head.loss_by_feat(*inputs, objects, metas, noised)

    def of_criterion() -> Result:
        targets = Targets.from_samples(batch, NUM_CLASSES)
        pairs = zip(*inputs[:2], strict=True)
        outputs = Outputs(
            tuple(Prediction(*pair) for pair in pairs),
            proposals=Proposals(Prediction(*inputs[2:])),
            branches=(source.branch(source.layout(targets)), Branch(number)),
        )
        losses = criterion(outputs, targets)
        return {name: value for name, value in losses.items() if 'loss' in name}

    return {'mmdet': of_mmdet, 'ours': of_criterion}, inputs


def plain_runs(
    name: str, shape: tuple[int, int, int], batch: list[DetDataSample], device: str
) -> Runs:
    """mmdet's head and our criterion on predictions (layers, images, queries)."""
    head, criterion, columns = criteria(name)
    inputs = predictions(shape, columns, device)
    runs = {
        'mmdet': partial(of_peer, head.to(device), *inputs, batch),
        'ours': partial(of_ours, criterion.to(device), *inputs, batch),
    }
    return runs, inputs


def step(forward: Callable[[], Result], inputs: Sequence[Tensor]) -> Result:
    """Losses and their gradients."""
    losses = forward()
    grads = torch.autograd.grad(sum(losses.values()), inputs)
    return {**losses, **{f'grad_{i}': grad for i, grad in enumerate(grads)}}


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
        batch = samples(args.batch, (800, 1066), args.objects, args.device)
        shape = (args.layers, args.batch, args.queries)
        if name == DENOISING:
            runs, inputs = dino_runs(shape, batch, args.device)
        else:
            runs, inputs = plain_runs(name, shape, batch, args.device)
        contest.compare(f'{name}, forward', runs)
        both = {who: partial(step, run, inputs) for who, run in runs.items()}
        contest.compare(f'{name}, with backward', both)
    contest.finish()
    return 0


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
"""A training step (forward, losses, backward): our models and others with the same weights.

    python tools/benchmarks/train_step.py deformable_detr_r50
    python tools/benchmarks/train_step.py detr_r50
    python tools/benchmarks/train_step.py detr_dc5_r50
    python tools/benchmarks/train_step.py dino_r50_mmdet --seed 3
    python tools/benchmarks/train_step.py rt_detr_r18 d_fine_s --batch 2 --peers transformers
    python tools/benchmarks/train_step.py --device cuda --precision fp32 bf16

Losses and all gradients are compared in single precision without dropout; then steps with dropout are
timed. The image is not padded. The optimizer's step is the same for both and is left out. Both models
are given the same noise where they are compared. Two-stage models rank tokens: where two scores are
equal but for rounding, losses differ by more than that. Another ``--seed`` gives other weights.

The models of transformers need two images on the CPU: for one, torch 2.13 computes wrong gradients of
their batch norms (the map is contiguous, its gradient is in channels-last order). Their D-FINE has
fewer losses than ours; those of its distributions, which it does not compute as the authors do, are
timed but not compared.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from mmdet.models import BaseDetector
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from mmdetr_plugin.checkpoints import to_ours
from mmdetr_plugin.detector import DETR
from mmdetr_plugin.testing.benchmark import Contest, Result, parse, parser, without_dropout
from mmdetr_plugin.testing.hf_training import (
    compared,
    hf_losses,
    keep_statistics_,
    train_as_transformers_,
)
from mmdetr_plugin.testing.inputs import PRECISIONS, add_small, configure_, images, samples
from mmdetr_plugin.testing.noise import shared_hf_noise, shared_noise
from mmdetr_plugin.testing.peers import hf_pair, mmdet_pair

CASES = {
    'deformable_detr_r50': (480, 640),
    'detr_r50': (480, 640),
    'detr_dc5_r50': (800, 1066),
    'dino_r50_mmdet': (480, 640),
}
"""(height, width) of the one image on the CPU; on a GPU there are two images of 800 x 1066."""
SQUARE = (640, 640)
"""The same for names that are not in ``CASES``: the real-time models."""


def step(
    model: nn.Module,
    inputs: Tensor,
    batch: list[DetDataSample],
    precision: str = 'fp32',
    peer: nn.Module | None = None,
) -> Result:
    """Run forward and backward; return the losses. The gradients stay in the model.

    ``peer`` is a model of transformers: only what it computes as we do is summed up.
    """
    model.zero_grad(set_to_none=True)
    dtype = PRECISIONS[precision]
    with torch.autocast(inputs.device.type, dtype, enabled=dtype is not None):
        mm = isinstance(model, BaseDetector)
        losses = model.loss(inputs, batch) if mm else hf_losses(model, inputs, batch)
    if peer is None:
        losses = {name: value for name, value in losses.items() if 'loss' in name}
    else:
        losses = compared(losses, peer)
    # float16 cannot hold small gradients: scale by the factor that a gradient scaler begins with.
    scale = 2.0**16 if dtype == torch.float16 else 1.0
    (scale * sum(losses.values())).backward()
    return losses


def checked(
    model: nn.Module,
    theirs: nn.Module,
    ours: DETR,
    lacking: set[str],
    inputs: Tensor,
    batch: list[DetDataSample],
) -> Result:
    """Losses and gradients under our names, without dropout and with fixed statistics of norms: those
    of one small batch make rounding errors large.

    ``lacking`` are parameters that the other model does not have: biases before a norm.
    """
    peer = None if isinstance(theirs, BaseDetector) else theirs
    with without_dropout(model):
        losses = step(keep_statistics_(model), inputs, batch, peer=peer)
    model.train()
    # Zeros for what is not trained: the norms of frozen layers are buffers in some models.
    entries = model.state_dict(keep_vars=True).items()
    grads = {n: torch.zeros_like(x) if x.grad is None else x.grad for n, x in entries}
    if model is not ours:
        grads = to_ours(grads, ours)[0]
    model.zero_grad(set_to_none=True)
    return {**losses, **{f'grad {n}': grad for n, grad in grads.items() if n not in lacking}}


def same_noise(peer: nn.Module, ours: DETR) -> AbstractContextManager[None]:
    """Equal random numbers, where the models have denoising queries."""
    if not isinstance(peer, BaseDetector):
        return shared_hf_noise(peer, ours)
    return shared_noise(peer, ours) if hasattr(peer, 'dn_query_generator') else nullcontext()


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument('names', nargs='*', metavar='NAME', help=f'of {", ".join(CASES)}')
    options.add_argument('--batch', type=int, help='images (default: 1, on a GPU 2)')
    options.add_argument('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'))
    options.add_argument('--objects', type=int, default=10, help='of every image')
    options.add_argument('--seed', type=int, default=0, help='of the random weights')
    options.add_argument(
        '--precision', nargs='+', choices=PRECISIONS, default=['fp32'], help='of both'
    )
    options.add_argument(
        '--peers',
        nargs='+',
        choices=('mmdet', 'transformers'),
        default=['mmdet'],
        help='transformers: RT-DETR and D-FINE',
    )
    add_small(options)
    args = parse(options, argv)
    contest = Contest(args)
    gpu = args.device == 'cuda'
    pairs = {'mmdet': mmdet_pair, 'transformers': hf_pair}
    for name, peer in itertools.product(args.names or CASES, args.peers):
        size = tuple(args.size or ((800, 1066) if gpu else CASES.get(name, SQUARE)))
        number = args.batch or 1 + gpu
        theirs, ours = (
            model.to(args.device).train()
            for model in pairs[peer](name, seed=args.seed, small=args.small)
        )
        configure_(ours)
        if peer == 'transformers':
            train_as_transformers_(ours)
        inputs = images(number, size, args.device)
        batch = samples(number, size, args.objects, args.device)
        lacking = set(to_ours(theirs.state_dict(), ours)[2])
        check = {
            who: partial(checked, model, theirs, ours, lacking, inputs, batch)
            for who, model in ((peer, theirs), ('ours', ours))
        }
        for precision in args.precision:
            single = precision == 'fp32'
            runs = {
                who if single else f'{who} {precision}': partial(
                    step, model, inputs, batch, precision
                )
                for who, model in ((peer, theirs), ('ours', ours))
            }
            case = f'{name}, {number} x {size[0]} x {size[1]}'
            more = {'check': check} if single else {'tolerance': None}
            with same_noise(theirs, ours):
                contest.compare(case, runs, **more)
    contest.finish()
    return 0


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
"""Linear layers: torch's and ours, in inference and in training.

    python tools/benchmarks/linear.py
    python tools/benchmarks/linear.py --tokens 6380 --inputs 1024 --outputs 256

6380 tokens are those of four levels of an image of 480 x 640.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mmdetr_plugin.ops.linear import Linear
from mmdetr_plugin.testing.benchmark import Contest, Result, parse, parser


def inference(layer: nn.Module, x: Tensor) -> Result:
    with torch.no_grad():
        return {'output': layer(x)}


def training(layer: nn.Module, x: Tensor) -> Result:
    """The output, and the gradients of a weighted sum of its entries."""
    out = layer(x)
    weights = torch.linspace(-1, 1, out.shape[-1], device=out.device)
    names = {'tokens': x, **dict(layer.named_parameters())}
    grads = torch.autograd.grad((out * weights).sum(), list(names.values()))
    return {'output': out, **{f'grad {name}': grad for name, grad in zip(names, grads)}}


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument('--tokens', type=int, nargs='+', default=[300, 6380])
    options.add_argument('--inputs', type=int, default=256)
    options.add_argument('--outputs', type=int, default=1024)
    args = parse(options, argv)
    contest = Contest(args)
    torch.manual_seed(0)
    layers = {
        'torch': nn.Linear(args.inputs, args.outputs).to(args.device),
        'ours': Linear(args.inputs, args.outputs).to(args.device),
    }
    layers['ours'].load_state_dict(layers['torch'].state_dict())
    for number in args.tokens:
        x = torch.randn(1, number, args.inputs, device=args.device).requires_grad_()
        for kind in (inference, training):
            case = f'{kind.__name__}, {number} x {args.inputs} to {args.outputs}'
            contest.compare(case, {who: partial(kind, layer, x) for who, layer in layers.items()})
    contest.finish()
    return 0


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
"""Self-attention of image tokens: ours and nn.MultiheadAttention as mmdet calls it.

    python tools/benchmarks/attention.py

mmcv makes nn.MultiheadAttention return averaged weights and does not use them. An 800 x 1066 image has
850 tokens at stride 32 (DETR) and 3400 at stride 16 (DC5).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mmdetr_plugin.attention import SelfAttention
from mmdetr_plugin.structures import State
from mmdetr_plugin.testing.benchmark import Contest, Result, parse, parser, without_dropout


def pair(dims: int, heads: int, dropout: float, device: str) -> tuple[nn.Module, nn.Module]:
    """torch's attention and ours with equal weights, in training mode."""
    torch.manual_seed(0)
    peer = nn.MultiheadAttention(dims, heads, dropout, batch_first=True)
    nn.init.normal_(peer.in_proj_bias)
    ours = SelfAttention(dims, heads, dropout)
    ours.load_state_dict(peer.state_dict())
    return peer.to(device), ours.to(device)


def of_peer(attention: nn.Module, tokens: Tensor, pos: Tensor) -> Tensor:
    return attention(tokens + pos, tokens + pos, tokens)[0]


def of_ours(attention: nn.Module, tokens: Tensor, pos: Tensor) -> Tensor:
    return attention(State(tokens, pos), None, 0)


def forward(run: partial) -> Result:
    with torch.no_grad():
        return {'output': run()}


def step(run: partial, attention: nn.Module, tokens: Tensor) -> Result:
    """The output, and the gradients of a weighted sum of its entries."""
    out = run()
    weights = torch.linspace(-1, 1, out.shape[-1], device=out.device)
    leaves = {'tokens': tokens, **dict(attention.named_parameters())}
    grads = torch.autograd.grad((out * weights).sum(), list(leaves.values()))
    return {'output': out, **{f'grad_{k}': g for k, g in zip(leaves, grads)}}


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument('--tokens', type=int, nargs='+', default=[850, 3400])
    options.add_argument('--batch', type=int, default=1)
    options.add_argument('--dropout', type=float, default=0.1, help='of the weights, in training')
    args = parse(options, argv)
    contest = Contest(args)
    modules = dict(zip(('mmdet', 'ours'), pair(256, 8, args.dropout, args.device)))
    for number in args.tokens:
        tokens = torch.randn(args.batch, number, 256, device=args.device).requires_grad_()
        pos = torch.randn(args.batch, number, 256, device=args.device)
        calls = {'mmdet': of_peer, 'ours': of_ours}
        runs = {who: partial(calls[who], module, tokens, pos) for who, module in modules.items()}
        steps = {who: partial(step, run, modules[who], tokens) for who, run in runs.items()}
        for module in modules.values():
            module.eval()
        contest.compare(f'{number}, forward', {k: partial(forward, r) for k, r in runs.items()})
        for module in modules.values():
            module.train()
        with without_dropout(*modules.values()):
            contest.compare(f'{number}, with backward', steps)
        if args.dropout:
            contest.compare(f'{number}, with backward and dropout', steps, tolerance=None)
    contest.finish()
    return 0


if __name__ == '__main__':
    sys.exit(main())

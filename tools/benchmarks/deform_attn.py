#!/usr/bin/env python3
"""Deformable attention alone: our backends, mmcv's, and other implementations in torch.

    python tools/benchmarks/deform_attn.py
    python tools/benchmarks/deform_attn.py --device cuda

The input is that of an encoder layer: four levels with strides 8 to 64, every token a query. The
sampling locations are spread as in early training (3 cells around each token, some off the map). On
the CPU the peer is mmcv's PyTorch path, on a GPU mmcv's CUDA op in single precision.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)
from torch import Tensor
from torch.nn import functional as F

from mmdetr_plugin.ops.deformable import NEEDS, Shapes, deformable_attention, level_tables
from mmdetr_plugin.testing.benchmark import Contest, Result, parse, parser

Sample = Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]
PRECISIONS = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}


def mmcv_pytorch(value: Tensor, shapes: Shapes, places: Tensor, weights: Tensor) -> Tensor:
    sizes = level_tables(shapes, value.device)[0]
    return multi_scale_deformable_attn_pytorch(value, sizes, places, weights)


def mmcv_cuda(value: Tensor, shapes: Shapes, places: Tensor, weights: Tensor) -> Tensor:
    tables = level_tables(shapes, value.device)
    return MultiScaleDeformableAttnFunction.apply(value, *tables, places, weights, 64)


def corners(shapes: Shapes, places: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens (B, N, heads, 4 L P) that a query reads, and their weights; 0 outside the map."""
    sizes, starts = level_tables(shapes, places.device)
    sizes, starts = sizes.flip(-1)[:, None], starts[:, None]  # (L, 1, 2) as (W, H), (L, 1)
    cells = places * sizes - 0.5
    lowest = cells.detach().floor()
    fraction = cells - lowest
    tokens, shares = [], []
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        corner = lowest + lowest.new_tensor((dx, dy))
        inside = ((corner >= 0) & (corner < sizes)).all(-1)
        corner = torch.minimum(corner.clamp(min=0).long(), sizes - 1)
        tokens.append(starts + corner[..., 1] * sizes[..., 0] + corner[..., 0])
        across = fraction[..., 0] if dx else 1 - fraction[..., 0]
        down = fraction[..., 1] if dy else 1 - fraction[..., 1]
        shares.append(across * down * weights * inside)
    return torch.stack(tokens, -1).flatten(3), torch.stack(shares, -1).flatten(3)


def by_gather(value: Tensor, shapes: Shapes, places: Tensor, weights: Tensor) -> Tensor:
    tokens, shares = corners(shapes, places, weights)
    index = tokens.transpose(1, 2).flatten(2)[..., None].expand(-1, -1, -1, value.shape[-1])
    read = value.transpose(1, 2).gather(2, index)  # (B, heads, N * 4 L P, D)
    read = read.unflatten(2, (tokens.shape[1], -1))
    return (read * shares.transpose(1, 2)[..., None]).sum(-2).transpose(1, 2).flatten(2)


def by_embedding_bag(value: Tensor, shapes: Shapes, places: Tensor, weights: Tensor) -> Tensor:
    batch, size, heads, width = value.shape
    tokens, shares = corners(shapes, places, weights)
    images = torch.arange(batch, device=value.device).view(-1, 1, 1, 1) * size
    index = (images + tokens) * heads + torch.arange(heads, device=value.device)[:, None]
    rows = value.reshape(-1, width)
    samples = tokens.shape[-1]
    out = F.embedding_bag(
        index.view(-1, samples), rows, mode='sum', per_sample_weights=shares.view(-1, samples)
    )
    return out.view(batch, -1, heads * width)


def inputs(
    shapes: Shapes, batch: int, heads: int, width: int, points: int, queries: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, locations, weights; every token is a query, or ``queries`` random tokens are."""
    generator = torch.Generator().manual_seed(0)
    grids = [torch.cartesian_prod(torch.arange(h) + 0.5, torch.arange(w) + 0.5) for h, w in shapes]
    tokens = torch.cat([grid / torch.tensor(s) for grid, s in zip(grids, shapes)]).flip(-1)
    chosen = tokens if queries is None else tokens[torch.randperm(len(tokens))[:queries]]
    sizes = torch.tensor(shapes).flip(-1)[:, None]  # (L, 1, 2) as (W, H)
    spread = torch.randn(batch, len(chosen), heads, len(shapes), points, 2, generator=generator)
    cells = chosen[:, None, None, None] * sizes + 3 * spread - 0.5
    # On the border between two cells the gradient is undefined: rounding would decide it.
    cells = cells.floor() + (cells - cells.floor()).clamp(0.01, 0.99)
    weights = torch.randn(*cells.shape[:3], len(shapes) * points, generator=generator).softmax(-1)
    value = torch.randn(batch, len(tokens), heads, width, generator=generator)
    return value, (cells + 0.5) / sizes, weights.unflatten(-1, (len(shapes), points))


def forward(sample: Sample, shapes: Shapes, dtype: torch.dtype, tensors: tuple) -> Result:
    value, places, weights = tensors
    with torch.no_grad():
        return {'out': sample(value.to(dtype), shapes, places, weights.to(dtype))}


def both(sample: Sample, shapes: Shapes, dtype: torch.dtype, tensors: tuple) -> Result:
    value, places, weights = tensors
    leaves = [x.detach().requires_grad_() for x in (value.to(dtype), places, weights.to(dtype))]
    out = sample(leaves[0], shapes, *leaves[1:])
    grads = torch.autograd.grad(out, leaves, torch.ones_like(out).cumsum(-1) / out.shape[-1])
    return {'out': out, **dict(zip(('grad_value', 'grad_places', 'grad_weights'), grads))}


def contenders(device: str, compiler: bool) -> dict[str, Sample]:
    """All implementations by name; the peer is the first."""
    peer: dict[str, Sample]
    peer = {'mmcv, CUDA': mmcv_cuda} if device == 'cuda' else {'mmcv, PyTorch': mmcv_pytorch}
    ready = [n for n, (kind, there, _) in NEEDS.items() if kind in (None, device) and there()]
    ours: dict[str, Sample]
    ours = {f'ours, {n}': partial(deformable_attention, backend=n) for n in (*ready, 'grid')}
    others: dict[str, Sample] = {'gather': by_gather, 'embedding_bag': by_embedding_bag}
    if compiler:
        others['inductor'] = torch.compile(partial(deformable_attention, backend='grid'))
    return peer | ours | others


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument('--size', type=int, nargs=2, default=(800, 1066), metavar=('H', 'W'))
    options.add_argument('--batch', type=int, default=1)
    options.add_argument('--heads', type=int, default=8)
    options.add_argument('--width', type=int, default=32, help='channels of a head')
    options.add_argument(
        '--levels', type=int, default=4, help='number of levels; the first has stride 8'
    )
    options.add_argument('--points', type=int, default=4, help='points per head and level')
    options.add_argument('--queries', type=int, help='number of queries (default: every token)')
    options.add_argument(
        '--only', nargs='*', help='only implementations whose names contain one of these'
    )
    options.add_argument(
        '--no-inductor', action='store_true', help='for machines without a C++ compiler'
    )
    args = parse(options, argv)
    shapes = tuple(
        (math.ceil(args.size[0] / s), math.ceil(args.size[1] / s))
        for s in (8 * 2**level for level in range(args.levels))
    )
    given = inputs(shapes, args.batch, args.heads, args.width, args.points, args.queries)
    tensors = tuple(x.to(args.device) for x in given)
    every = contenders(args.device, not args.no_inductor)
    peer = next(iter(every))
    chosen = {n: s for n, s in every.items() if n == peer or _named(n, args.only)}
    contest = Contest(args)
    for run in (forward, both):
        case = 'forward' if run is forward else 'with backward'
        runs = {n: partial(run, s, shapes, torch.float32, tensors) for n, s in chosen.items()}
        contest.compare(f'{case}, fp32', runs)
        if args.device == 'cuda':
            halves = {
                f'{n}, {precision}': partial(run, s, shapes, PRECISIONS[precision], tensors)
                for n, s in chosen.items()
                if n.startswith('ours')
                for precision in ('fp16', 'bf16')
            }
            first = {f'{peer}, fp32': runs[peer]}
            contest.compare(f'{case}, 16 bits', first | halves, tolerance=None)
    contest.finish()
    return 0


def _named(name: str, parts: list[str] | None) -> bool:
    return parts is None or any(part in name for part in parts)


if __name__ == '__main__':
    sys.exit(main())

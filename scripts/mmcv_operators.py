#!/usr/bin/env python3
"""Compare the compiled operators of two builds of mmcv.

    python scripts/mmcv_operators.py results.pt            # with one build: writes the results
    python scripts/mmcv_operators.py results.pt --compare  # with the other: compares with them

All operators that this package and mmdet's models can run on the CPU are called with random inputs,
with their gradients where they have any. Ends with 1 if a result differs by a single bit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import torch
from mmcv import ops
from torch import Tensor

CASES: dict[str, Callable[[], Sequence[Tensor]]] = {}


def case(run: Callable[[], Sequence[Tensor]]) -> Callable[[], Sequence[Tensor]]:
    CASES[run.__name__] = run
    return run


def boxes(number: int, rotated: bool = False) -> Tensor:
    """(N, 4) corners, or (N, 5) centre, size and angle, in a picture of 64 pixels."""
    centre, size = 64 * torch.rand(number, 2), 4 + 20 * torch.rand(number, 2)
    if rotated:
        return torch.cat((centre, size, 6.28 * torch.rand(number, 1)), 1)
    return torch.cat((centre - size / 2, centre + size / 2), 1)


def with_gradients(run: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The result, and the gradients of all inputs."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = run(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, torch.randn_like(out))]


def regions(rotated: bool = False) -> Tensor:
    return torch.cat((torch.arange(2).repeat(8)[:, None], boxes(16, rotated)), 1)


@case
def nms() -> list[Tensor]:
    return list(ops.nms(boxes(200), torch.rand(200), 0.5))


@case
def soft_nms() -> list[Tensor]:
    return list(ops.soft_nms(boxes(200), torch.rand(200), 0.5))


@case
def batched_nms() -> list[Tensor]:
    groups = torch.randint(0, 3, (200,))
    return list(
        ops.batched_nms(boxes(200), torch.rand(200), groups, {'type': 'nms', 'iou_threshold': 0.5})
    )


@case
def nms_match() -> list[Tensor]:
    return list(ops.nms_match(torch.cat((boxes(60), torch.rand(60, 1)), 1), 0.5))


@case
def nms_rotated() -> list[Tensor]:
    return list(ops.nms_rotated(boxes(60, True), torch.rand(60), 0.3))


@case
def box_iou_rotated() -> list[Tensor]:
    return [ops.box_iou_rotated(boxes(20, True), boxes(30, True))]


@case
def roi_align() -> list[Tensor]:
    rois = regions()
    return with_gradients(lambda x: ops.roi_align(x, rois, 7, 1.0, 2), torch.randn(2, 8, 64, 64))


@case
def roi_align_rotated() -> list[Tensor]:
    rois = regions(True)
    layer = ops.RoIAlignRotated(7, 1.0, 2)
    return with_gradients(lambda x: layer(x, rois), torch.randn(2, 8, 64, 64))


@case
def deform_conv2d() -> list[Tensor]:
    return with_gradients(
        lambda x, offset, weight: ops.deform_conv2d(x, offset, weight, 1, 1),
        torch.randn(2, 8, 16, 16),
        torch.randn(2, 18, 16, 16),
        torch.randn(8, 8, 3, 3),
    )


@case
def modulated_deform_conv2d() -> list[Tensor]:
    return with_gradients(
        lambda *x: ops.modulated_deform_conv2d(*x, 1, 1),
        torch.randn(2, 8, 16, 16),
        torch.randn(2, 18, 16, 16),
        torch.rand(2, 9, 16, 16),
        torch.randn(8, 8, 3, 3),
        torch.randn(8),
    )


@case
def deformable_attention() -> list[Tensor]:
    shapes = torch.tensor([[16, 16], [8, 8]])
    layer = ops.MultiScaleDeformableAttention(32, 4, 2, 4, batch_first=True, dropout=0.0)
    places = torch.rand(2, 10, 2, 2)
    starts = torch.tensor([0, 256])
    return with_gradients(
        lambda query, value: layer(
            query,
            value=value,
            reference_points=places,
            spatial_shapes=shapes,
            level_start_index=starts,
        ),
        torch.randn(2, 10, 32),
        torch.randn(2, 320, 32),
    )


def results() -> dict[str, list[Tensor]]:
    """All cases, each with the same random numbers."""
    found = {}
    for name, run in CASES.items():
        torch.manual_seed(0)
        found[name] = [torch.as_tensor(x) for x in run()]
    extension = import_module('mmcv._ext')
    found['names'] = [torch.tensor([ord(c) for c in ' '.join(sorted(dir(extension)))])]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    options.add_argument('file', type=Path, help='of the results')
    options.add_argument('--compare', action='store_true', help='with the results in the file')
    args = options.parse_args(argv)
    torch.set_num_threads(1)  # sums of several threads differ from run to run
    found = results()
    if not args.compare:
        torch.save(found, args.file)
        print(f'{len(found)} results written to {args.file}')
        return 0
    expected = torch.load(args.file)
    differing = [
        name
        for name in sorted(expected.keys() | found.keys())
        if name not in found
        or name not in expected
        or len(found[name]) != len(expected[name])
        or not all(torch.equal(a, b) for a, b in zip(found[name], expected[name], strict=True))
    ]
    print(f'{len(found) - len(differing)} of {len(found)} results are equal')
    for name in differing:
        print(f'differs: {name}')
    return int(bool(differing))


if __name__ == '__main__':
    sys.exit(main())

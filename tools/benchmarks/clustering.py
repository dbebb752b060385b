#!/usr/bin/env python3
"""Adaptive clustering attention against exact attention: time, clusters and difference by image size.

    python tools/benchmarks/clustering.py --tokens 850 3400 --rounds 16 32
    python tools/benchmarks/clustering.py --trained CONFIG CHECKPOINT

An 800 x 1066 image has 850 tokens at stride 32 (DETR) and 3400 at stride 16 (DC5). The tokens
vary slowly over the image, as features do, and weights are random. The difference is relative.

With --trained: the AP of a trained model on its validation set with exact attention in the encoder, and
with clustered attention in its place.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor

from mmdetr_plugin.attention import AdaptiveClusteringAttention, SelfAttention
from mmdetr_plugin.structures import State
from mmdetr_plugin.testing import quiet

DIMS, HEADS = 256, 8


def smooth_tokens(number: int, device: str) -> tuple[Tensor, Tensor]:
    """Contents and positions (1, N, C): noise at 16 x 16 points, interpolated."""
    side = max(round(number**0.5), 1)
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, DIMS, 16, 16, generator=generator)
    maps = torch.nn.functional.interpolate(maps, size=(side, side), mode='bicubic')
    content, pos = maps.flatten(2).mT[:, None]
    return content.to(device), pos.to(device)


def seconds(run: Callable[[], Tensor], repeats: int, device: str) -> float:
    """The median time of a call."""
    times = []
    for _ in range(repeats + 1):  # the first call is left out
        started = time.perf_counter()
        run()
        if device.startswith('cuda'):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[repeats // 2]


def compare(number: int, rounds: Sequence[int], repeats: int, device: str) -> list[str]:
    """A line for each number of rounds."""
    torch.manual_seed(0)
    exact = SelfAttention(DIMS, HEADS, 0.0).to(device).eval()
    state = State(*smooth_tokens(number, device))
    expected = exact(state, None, 0)
    base = seconds(lambda: exact(state, None, 0), repeats, device)
    lines = []
    for q_hashes in rounds:
        op = AdaptiveClusteringAttention(DIMS, HEADS, 0.0, q_hashes=q_hashes).to(device).eval()
        op.load_state_dict(exact.state_dict())
        x = state.with_pos()
        q = op.project(x, x, state.content)[0].flatten(0, 1)
        clusters = op.clusters(q * q.shape[-1] ** -0.5, q_hashes).counts.shape[1]
        difference = (op(state, None, 0) - expected).norm() / expected.norm()
        taken = seconds(lambda op=op: op(state, None, 0), repeats, device)
        lines.append(
            f'| {state.content.shape[1]} | {q_hashes} | {clusters} | {1e3 * base:.1f} '
            f'| {1e3 * taken:.1f} | {difference:.3f} |'
        )
    return lines


def evaluate(config: str, checkpoint: str, rounds: int | None, folder: str) -> str:
    """A line with the AP of a trained model; ``rounds`` None = exact attention."""
    torch.manual_seed(0)
    cfg = Config.fromfile(config)
    cfg.load_from, cfg.resume = checkpoint, False
    if rounds is not None:
        cfg.model.encoder.layer.self_attn.update(
            type='AdaptiveClusteringAttention', q_hashes=rounds
        )
    # One folder for all: runs of a process share the visualizer of the first.
    cfg.work_dir, cfg.experiment_name = folder, f'rounds_{rounds}'
    with open(f'{folder}/log', 'a') as log, quiet(log):
        found = Runner.from_cfg(cfg).val()
    name = 'exact' if rounds is None else f'{rounds} rounds'
    return f'| {name} | {found["coco/bbox_mAP"]:.3f} | {found["coco/bbox_mAP_50"]:.3f} |'


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--tokens', type=int, nargs='+', default=[850, 3400, 6800])
    parser.add_argument('--rounds', type=int, nargs='+', default=[16, 20, 24, 32])
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--trained', nargs=2, metavar=('CONFIG', 'CHECKPOINT'))
    args = parser.parse_args(argv)
    if args.trained:
        print('| attention of the encoder | AP | AP50 |\n|---|---|---|')
        with tempfile.TemporaryDirectory() as folder:
            for number in (None, *args.rounds):
                print(evaluate(*args.trained, number, folder), flush=True)
        return 0
    print(
        '| tokens | rounds | largest number of clusters | exact, ms | clustered, ms | difference |'
    )
    print('|---|---|---|---|---|---|')
    with torch.no_grad():
        for number in args.tokens:
            print('\n'.join(compare(number, args.rounds, args.repeats, args.device)), flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())

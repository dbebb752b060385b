#!/usr/bin/env python3
"""Export whole models with random weights, and compare what the files find with PyTorch.

    python tools/benchmarks/exports.py
    python tools/benchmarks/exports.py detr_r50 dino_r50 --json exports.json
    python tools/benchmarks/exports.py dino_swin_l --fixed 800 1088

For each config: seconds to write the file and its size, and the largest differences that
tools/export.py looks for (two small sizes, one and two pictures), then those of one picture of the size
that the config is tested with. ONNX Runtime and OpenVINO, single precision. The exit code is 1 if one
differs too much with each of three seeds for the weights: with some of them, tokens of equal scores are
at the limit of what is selected. With --json an interrupted call continues: what the file has is not
done again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mmdetr_plugin.export import DetectionGraph, capture
from mmdetr_plugin.export.check import Difference, compare
from mmdetr_plugin.export.onnx_file import write_onnx
from mmdetr_plugin.export.openvino_file import write_openvino
from mmdetr_plugin.export.runners import onnx_runner, openvino_runner
from mmdetr_plugin.structures import Size
from mmdetr_plugin.testing import write_json
from mmdetr_plugin.testing.exporting import detector
from mmdetr_plugin.testing.inputs import add_small

NAMES = (
    *('detr_r50', 'conditional_detr_r50', 'smca_detr_r50', 'anchor_detr_r50', 'dab_detr_r50'),
    *('deformable_detr_r50', 'deformable_detr_refine_r50', 'deformable_detr_two_stage_r50'),
    *('deformable_detr_single_scale_r50', 'deformable_detr_single_scale_dc5_r50'),
    *('sam_detr_r50', 'detr_panoptic_r50', 'dino_r50', 'rt_detr_r18', 'rt_detr_r50', 'd_fine_s'),
    *('rtdetrv2_r18', 'lw_detr_small', 'rf_detr_small'),
)
SEEDS = 3
HEADER = (
    'config',
    'seed',
    'exported in',
    'MiB',
    'runtime',
    'small sizes',
    'as tested',
    'difference there',
)


def trial(name: str, fixed: Size | None, small: bool, seed: int) -> list[dict]:
    """A row for each runtime."""
    model, interface, size = detector(name, small, fixed, seed)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder) / f'{name}.onnx'
        began = time.perf_counter()
        write_onnx(capture(DetectionGraph(model), interface), interface, onnx)
        seconds = time.perf_counter() - began
        mib = onnx.stat().st_size / 2**20
        write_openvino(onnx, interface, onnx.with_suffix('.xml'), half=False)
        for runtime, run in (
            ('ONNX Runtime', onnx_runner(onnx)),
            ('OpenVINO', openvino_runner(onnx.with_suffix('.xml'))),
        ):
            usual = compare(run, model, interface)
            large = compare(run, model, interface, trials=[(1, size)])
            rows.append(
                {
                    'config': name,
                    'seed': str(seed),
                    'exported in': f'{seconds:.0f} s',
                    'MiB': f'{mib:.0f}',
                    'runtime': runtime,
                    'small sizes': str(usual),
                    'as tested': f'{size[0]} x {size[1]}',
                    'difference there': str(large),
                    'within': (usual | large).within(),
                }
            )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument('names', nargs='*', metavar='NAME', help=f'configs ({" ".join(NAMES)})')
    options.add_argument('--fixed', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'))
    options.add_argument('--json', type=Path, metavar='FILE', help='write the figures there too')
    add_small(options)
    args = options.parse_args(argv)
    rows: list[dict] = []
    if args.json and args.json.is_file():
        rows = json.loads(args.json.read_text())
    for name in args.names or NAMES:
        if any(row['config'] == name for row in rows):
            continue
        for seed in range(SEEDS):
            made = trial(name, tuple(args.fixed) if args.fixed else None, args.small, seed)
            if all(row['within'] for row in made):
                break
        rows += made
        print(f'{name}: done', file=sys.stderr)
        if args.json:
            write_json(args.json, rows)
    print(f'| {" | ".join(HEADER)} |\n|{" --- |" * len(HEADER)}')
    for row in rows:
        print(f'| {" | ".join(row[key] for key in HEADER)} |')
    wrong = [row for row in rows if not row['within']]
    if wrong:
        names = sorted({row['config'] for row in wrong})
        print(f'differences must be within {Difference.limits()}; not so: {names}', file=sys.stderr)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())

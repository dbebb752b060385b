#!/usr/bin/env python3
"""Inference from pixels to detections: PyTorch, ONNX Runtime and OpenVINO on the CPU, same weights.

    python tools/benchmarks/runtimes.py
    python tools/benchmarks/runtimes.py rt_detr_r18 d_fine_s --size 640 640
    python tools/benchmarks/runtimes.py detr_r50 --runtimes onnx onnx-int8 --json runtimes.json
    python tools/benchmarks/runtimes.py deformable_detr_r50 --runtimes openvino --profile

One picture without padding, random weights. What the runtimes find in single precision is compared with
PyTorch first (as tools/export.py does), so the times of unequal results are not measured. int8 is ONNX
Runtime's dynamic quantisation of the matrix products; bf16 is OpenVINO's, where the processor has it.
Their differences are printed, not checked. The table has the difference of the scores from PyTorch's.
--profile adds where OpenVINO's time goes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mmdetr_plugin.detector import DETR
from mmdetr_plugin.export import DetectionGraph, capture
from mmdetr_plugin.export.check import Run, compare, expected, inputs_of, pictures
from mmdetr_plugin.export.onnx_file import write_onnx
from mmdetr_plugin.export.runners import (
    capabilities,
    onnx_runner,
    openvino_profile,
    openvino_runner,
)
from mmdetr_plugin.testing.benchmark import Contest, Result, parse, parser
from mmdetr_plugin.testing.exporting import detector
from mmdetr_plugin.testing.inputs import add_small

NAMES = ('detr_r50', 'deformable_detr_r50')
RUNTIMES = ('eager', 'folded', 'onnx', 'onnx-int8', 'openvino', 'openvino-bf16')
SIZE = (480, 640)
PROFILED = {'openvino': 'f32', 'openvino-bf16': 'bf16'}
"""Runtimes that can say where their time goes, and their precisions."""
LONGEST = 8  # types of operators that are printed


def quantized(source: Path) -> Path:
    """A copy of an ONNX file whose matrix products with weights are computed in 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = source.with_name(f'int8-{source.name}')
    quantize_dynamic(
        source, target, op_types_to_quantize=['MatMul', 'Gemm'], weight_type=QuantType.QInt8
    )
    return target


def sorted_scores(scores: np.ndarray, labels: np.ndarray) -> Result:
    """The scores of the detections of the one picture, which may come in any order."""
    return {'scores': torch.from_numpy(np.sort(scores[labels >= 0]))}


def of_eager(model: DETR, images: Sequence[np.ndarray]) -> Result:
    (found,) = expected(model, images)
    return sorted_scores(found['scores'], found['labels'])


@torch.no_grad()
def of_graph(graph: DetectionGraph, inputs: Mapping[str, np.ndarray]) -> Result:
    found = graph.find(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    return sorted_scores(found.scores[0].numpy(), found.labels[0].numpy())


def of_file(run: Run, inputs: Mapping[str, np.ndarray]) -> Result:
    found = run(dict(inputs))
    return sorted_scores(found['scores'][0], found['labels'][0])


def runners(onnx: Path, chosen: Sequence[str], threads: int) -> dict[str, Run]:
    """The chosen runtimes, loaded."""
    makers: dict[str, Callable[[], Run]] = {
        'onnx': partial(onnx_runner, onnx, threads),
        'onnx-int8': lambda: onnx_runner(quantized(onnx), threads),
        'openvino': partial(openvino_runner, onnx, threads),
        'openvino-bf16': partial(openvino_runner, onnx, threads, 'bf16'),
    }
    if 'openvino-bf16' in chosen and 'BF16' not in capabilities():
        print('openvino-bf16 is left out: this processor has no bf16', file=sys.stderr)
        del makers['openvino-bf16']
    return {name: make() for name, make in makers.items() if name in chosen}


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, devices=('cpu',))
    options.add_argument('names', nargs='*', metavar='NAME', help=f'configs ({" ".join(NAMES)})')
    options.add_argument('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), default=SIZE)
    options.add_argument('--runtimes', nargs='+', choices=RUNTIMES, default=RUNTIMES)
    options.add_argument(
        '--profile', action='store_true', help="print OpenVINO's time by type of operator too"
    )
    options.add_argument('--seed', type=int, default=0, help='of the weights (0)')
    add_small(options)
    args = parse(options, argv)
    contest = Contest(args)
    for name in args.names or NAMES:
        model, interface, _ = detector(name, args.small, seed=args.seed)
        size = tuple(args.size)
        images = pictures(interface, 1, size)
        inputs = inputs_of(interface, images, size)
        graph = DetectionGraph(model)
        runs = {'PyTorch eager': partial(of_eager, model, images)}
        if 'folded' in args.runtimes:
            runs['PyTorch folded'] = partial(of_graph, graph, inputs)
        with tempfile.TemporaryDirectory() as folder:
            onnx = Path(folder) / f'{name}.onnx'
            write_onnx(capture(graph, interface), interface, onnx)
            for runtime, run in runners(onnx, args.runtimes, args.threads).items():
                found = compare(run, model, interface)
                print(f'{name}, {runtime}: {found}', file=sys.stderr)
                if runtime in ('onnx', 'openvino') and not found.within():
                    options.error(f'{runtime} must find what PyTorch finds, got {found}')
                runs[runtime] = partial(of_file, run, inputs)
            case = f'{name}, {size[0]} x {size[1]}'
            contest.compare(case, runs, tolerance=None, memory=False)
            profiled = [one for one in PROFILED if one in runs and args.profile]
            for runtime in profiled:
                times = openvino_profile(onnx, inputs, args.threads, PROFILED[runtime])
                longest = [f'{kind} {ms:.0f}' for kind, ms in list(times.items())[:LONGEST]]
                print(f'{case}, {runtime}, ms: {", ".join(longest)}', file=sys.stderr)
    contest.finish()
    return 0


if __name__ == '__main__':
    sys.exit(main())

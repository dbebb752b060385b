#!/usr/bin/env python3
"""Inference from images to class logits and boxes: ours, mmdet and HF transformers, same weights.

    python tools/benchmarks/inference.py deformable_detr_r50
    python tools/benchmarks/inference.py detr_r50 conditional_detr_r50 dino_r50_mmdet
    python tools/benchmarks/inference.py --peers mmdet transformers
    python tools/benchmarks/inference.py rt_detr_r18 rt_detr_r50 d_fine_s --size 640 640 \
        --peers transformers --modes eager folded
    python tools/benchmarks/inference.py --modes eager compiled --batch 1 8
    python tools/benchmarks/inference.py --device cuda --modes eager compiled graph \
        --precision fp32 fp16 bf16 --batch 1 8

The peers run in the same precision as ours, eagerly and, where ours is compiled, compiled too. Images
are not padded. The differences printed for half precision, of the peer too, are those from the peer in
single precision.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mmdetr_plugin.deployment import fold_for_deployment_
from mmdetr_plugin.detector import DETR
from mmdetr_plugin.testing.benchmark import OUTPUTS, Contest, Result, parse, parser
from mmdetr_plugin.testing.inputs import PRECISIONS, add_small, configure_, images, samples
from mmdetr_plugin.testing.peers import hf_pair, mmdet_pair

NAMES = ('deformable_detr_r50', 'detr_r50', 'conditional_detr_r50', 'dino_r50_mmdet')
MODES = ('eager', 'folded', 'compiled', 'graph')
Network = Callable[[Tensor], Result]


def of_mmdet(model: nn.Module, inputs: Tensor) -> Result:
    """mmdet's heads compute the predictions of all layers, as mmdet's ``predict`` does."""
    height, width = inputs.shape[-2:]
    batch = samples(len(inputs), (height, width), 0, inputs.device)
    logits, boxes = model(inputs, batch, mode='tensor')[:2]
    return {'logits': logits[-1], 'boxes': boxes[-1]}


def of_ours(model: DETR, inputs: Tensor) -> Result:
    prediction = model.run(inputs, aux=False).layers[-1]
    return {'logits': prediction.logits, 'boxes': prediction.boxes}


def of_transformers(model: nn.Module, inputs: Tensor) -> Result:
    outputs = model(pixel_values=inputs)
    return {'logits': outputs.logits, 'boxes': outputs.pred_boxes}


def graphed(network: Network, inputs: Tensor) -> Network:
    """The network captured as one CUDA graph, for inputs of this shape."""
    static = inputs.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # caches and workspaces must exist before the capture
            network(static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = network(static)

    def replay(inputs: Tensor) -> Result:
        static.copy_(inputs)
        graph.replay()
        return outputs

    return replay


def in_mode(network: Network, mode: str, inputs: Tensor) -> Network:
    if mode == 'compiled':
        return torch.compile(network)
    return graphed(network, inputs) if mode == 'graph' else network


def run(network: Network, inputs: Tensor, precision: str) -> Result:
    dtype = PRECISIONS[precision]
    with torch.no_grad(), torch.autocast(inputs.device.type, dtype, enabled=dtype is not None):
        return network(inputs)


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument('names', nargs='*', metavar='NAME', help=f'of {", ".join(NAMES)}')
    options.add_argument('--batch', type=int, nargs='+', default=[1])
    options.add_argument('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'))
    options.add_argument('--peers', nargs='+', choices=('mmdet', 'transformers'), default=['mmdet'])
    options.add_argument('--modes', nargs='+', choices=MODES, default=['eager'])
    options.add_argument('--precision', nargs='+', choices=PRECISIONS, default=['fp32'])
    add_small(options)
    args = parse(options, argv)
    if 'graph' in args.modes and args.device != 'cuda':
        options.error("--modes graph needs --device cuda: it is CUDA's; leave it out")
    size = tuple(args.size or ((800, 1066) if args.device == 'cuda' else (480, 640)))
    pairs = {'mmdet': (mmdet_pair, of_mmdet), 'transformers': (hf_pair, of_transformers)}
    contest = Contest(args)
    for name, peer in itertools.product(args.names or NAMES, args.peers):
        make, call = pairs[peer]
        theirs, ours = (model.to(args.device) for model in make(name, small=args.small))
        configure_(ours)
        for number, precision in itertools.product(args.batch, args.precision):
            inputs = images(number, size, args.device)
            single = precision == 'fp32'
            their = partial(run, partial(call, theirs), inputs)
            runs = {peer if single else f'{peer} {precision}': partial(their, precision)}
            if 'compiled' in args.modes:
                compiled = partial(run, torch.compile(partial(call, theirs)), inputs, precision)
                runs[f'{peer} compiled {precision}'] = compiled
            for mode in args.modes:
                folded = mode == 'folded'
                model = fold_for_deployment_(copy.deepcopy(ours)) if folded else ours
                network = partial(run, partial(of_ours, model), precision=precision)
                runs[f'ours {mode} {precision}'] = partial(in_mode(network, mode, inputs), inputs)
            check = runs if single else {peer: partial(their, 'fp32'), **runs}
            case = f'{name}, {number} x {size[0]} x {size[1]}'
            contest.compare(case, runs, check, tolerance=OUTPUTS if single else None)
    contest.finish()
    return 0


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
"""Figures of the papers: attention, boxes of the queries, decoder layers, errors, convergence.

    python tools/visualize.py decoder image.jpg configs/detr_r50.py detr-r50.pth --out decoder.png
    python tools/visualize.py encoder image.jpg detr_r50 detr-r50.pth --at 320 240 --out encoder.png
    python tools/visualize.py heads image.jpg conditional_detr_r50 weights.pth --out heads.png
    python tools/visualize.py slots folder/ detr_r50 detr-r50.pth --out slots.png
    python tools/visualize.py layers detr_r50 detr-r50.pth --out layers.png
    python tools/visualize.py errors detr_r50 detr-r50.pth --out errors.png
    python tools/visualize.py precision detr_r50 detr-r50.pth --out precision.png
    python tools/visualize.py curves work_dirs/detr_r50 work_dirs/dino_r50 --out curves.png

decoder: where the query of each object looks; deformable models show the places that they sample.
encoder: where points of the image look. heads: the heads of one object, and content, position,
Gaussian, rows or columns alone where the model has them. slots: centres of each query's boxes over a
set of images. On the validation images of the config: layers: AP after each decoder layer, also with
non-maximum suppression. errors: what each kind of error costs. precision: precision against recall of
each class. curves: a value of every evaluation of training runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if 'OMP_WAIT_POLICY' not in os.environ:  # read when torch is loaded: docs/training.md
    os.environ.setdefault('GOMP_SPINCOUNT', '20000')

import numpy as np
from matplotlib.figure import Figure
from mmengine.utils import track_iter_progress

import mmdetr_plugin.engine.command_line as command_line
from mmdetr_plugin.checkpoints import written_whole
from mmdetr_plugin.evaluation.errors import error_breakdown
from mmdetr_plugin.inference import Predictor, load
from mmdetr_plugin.inference.scene import look, predicted_boxes
from mmdetr_plugin.inference.sources import find_files
from mmdetr_plugin.inference.validation import validate
from mmdetr_plugin.visualization.attention import decoder_figure, encoder_figure, heads_figure
from mmdetr_plugin.visualization.queries import slots_figure
from mmdetr_plugin.visualization.runs import METRIC, curves_figure, read_run
from mmdetr_plugin.visualization.scores import (
    errors_figure,
    layer_scores,
    layers_figure,
    precision_figure,
)

PICTURES = ('decoder', 'encoder', 'heads')
SCORES = ('layers', 'errors', 'precision')


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest='kind', required=True)
    for kind in (*PICTURES, 'slots', *SCORES):
        one = kinds.add_parser(kind)
        if kind not in SCORES:
            what = 'folder or list of images' if kind == 'slots' else 'path of the image'
            one.add_argument('input', type=Path, help=what)
        one.add_argument('config', help='path of the config, or name of one of this project')
        one.add_argument('checkpoint', help='path or address of the weights')
        one.add_argument('--device', help='e.g. cpu or cuda:0 (a GPU if there is one)')
        command_line.add_cfg_options(one)
        if kind == 'slots':
            one.add_argument('--queries', type=int, default=20, help='number of panels (20)')
        if kind not in PICTURES:
            continue
        one.add_argument('--layer', type=int, default=-1, help='from 0; -1 is the last (-1)')
        one.add_argument('--objects', type=int, default=4, help='number of objects (4)')
        if kind == 'encoder':
            one.add_argument(
                '--at',
                nargs=2,
                type=float,
                action='append',
                default=[],
                metavar=('X', 'Y'),
                help='a point in pixels; may be repeated (centres of the objects)',
            )
        if kind == 'heads':
            one.add_argument('--object', type=int, default=0, help='the object, best first (0)')
    curves = kinds.add_parser('curves')
    curves.add_argument('work_dirs', type=Path, nargs='+')
    curves.add_argument('--metric', default=METRIC)
    for one in kinds.choices.values():
        one.add_argument(
            '--out', type=Path, required=True, help='the figure: .png, .jpg, .svg or .pdf'
        )
    return parser


def draw(args: argparse.Namespace) -> Figure:
    if args.kind == 'curves':
        runs = {folder.name: read_run(folder, args.metric) for folder in args.work_dirs}
        return curves_figure(runs, args.metric)
    model = load(args.config, args.checkpoint, args.device, None, args.cfg_options)
    if args.kind in SCORES:
        return draw_scores(model, args.kind)
    if args.kind == 'slots':
        paths = list(find_files(args.input, args.out.with_suffix('')).paths)
        boxes = [predicted_boxes(model, path) for path in track_iter_progress(paths)]
        return slots_figure(np.stack(boxes), args.queries)
    scene = look(model, args.input, args.objects)
    if args.kind == 'encoder':
        return encoder_figure(scene, [tuple(point) for point in args.at], args.layer)
    if args.kind == 'heads':
        return heads_figure(scene, args.object, args.layer)
    return decoder_figure(scene, args.layer)


def draw_scores(model: Predictor, kind: str) -> Figure:
    """A figure of an evaluation."""
    validation = validate(model, track_iter_progress)
    if kind == 'layers':
        return layers_figure(layer_scores(validation))
    evaluation = validation.evaluation()
    if kind == 'errors':
        return errors_figure(error_breakdown(evaluation.matches))
    return precision_figure(evaluation)


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    kind = args.out.suffix.lower().removeprefix('.')
    if kind not in ('png', 'jpg', 'svg', 'pdf'):
        parser.error(f'--out must end in .png, .jpg, .svg or .pdf, got {args.out}')
    try:
        figure = draw(args)
        with written_whole(args.out) as file:
            figure.savefig(file, format=kind, dpi=130)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(args.out)
    return 0


if __name__ == '__main__':
    sys.exit(main())

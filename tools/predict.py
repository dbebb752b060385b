#!/usr/bin/env python3
"""Find objects in images or a video, draw them and write COCO's JSON.

    python tools/predict.py image.jpg configs/detr_r50.py detr-r50.pth --out found
    python tools/predict.py folder/ dino_r50 weights.pth --out found --classes person dog
    python tools/predict.py clip.mp4 configs/rt_detr_r18.py weights.pth --out found --batch 4 --amp

The folder gets a picture for each image (a video for a video) and predictions.json, whose images,
annotations and categories are COCO's with a score for each box. Panoptic models add panoptic.json and
PNGs. A file that cannot be read is reported and left out. The exit code is 1 if nothing could be read.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

if 'OMP_WAIT_POLICY' not in os.environ:  # read when torch is loaded: docs/training.md
    os.environ.setdefault('GOMP_SPINCOUNT', '20000')

from mmengine.utils import ProgressBar

import mmdetr_plugin.engine.command_line as command_line
from mmdetr_plugin.engine.freed_memory import keep_freed_memory
from mmdetr_plugin.inference import Predictor, load
from mmdetr_plugin.inference.output import Results, check_writable, video_writer
from mmdetr_plugin.inference.sources import VIDEO_SUFFIXES, Files, Video, find_files


def parse(argv: Sequence[str]) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('input', type=Path, help='image, folder, video, or list of images (.txt)')
    parser.add_argument('config', help='path of the config, or name of one of this project')
    parser.add_argument('checkpoint', help='path or address of the weights')
    parser.add_argument('--out', type=Path, required=True, help='folder of the results')
    parser.add_argument('--score-thr', type=float, default=0.3, help='lowest score (0.3)')
    parser.add_argument('--device', help='e.g. cpu or cuda:0 (a GPU if there is one)')
    parser.add_argument('--batch', type=int, default=1, help='images computed at once (1)')
    parser.add_argument(
        '--amp',
        choices=('auto', *command_line.PRECISIONS),
        help='mixed precision; without a value fp16 on a GPU and bf16 elsewhere',
    )
    parser.add_argument('--tta', action='store_true', help='test-time augmentation of the config')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='keep these classes only')
    parser.add_argument('--no-pictures', action='store_true', help='write the JSON alone')
    command_line.add_cfg_options(parser)
    return parser, parser.parse_args(command_line.spell_out_amp(argv))


def predict_files(model: Predictor, files: Files, results: Results, **options: object) -> list[str]:
    """Predict on image files; returns what is wrong with those that cannot be read."""
    names, broken = files.names(), []
    bar = ProgressBar(len(files.paths), file=sys.stderr)

    def report(image: object, error: Exception) -> None:
        broken.append(str(error))
        bar.update()

    paths = map(str, files.paths)
    for found in model.stream(paths, on_error=report, **options):
        results.add(found, names[str(found.path)])
        bar.update()
    print(file=sys.stderr)
    return broken


def predict_video(model: Predictor, video: Video, results: Results, **options: object) -> None:
    """Predict on the frames of a video, and draw them as a video."""
    target = results.folder / f'{video.path.stem}.mp4'
    drawn = video_writer(target, video.rate, video.size) if results.pictures else nullcontext()
    bar = ProgressBar(len(video), file=sys.stderr)
    with drawn as writer:
        for number, found in enumerate(model.stream(video, **options)):
            results.add(found, video.path.name, frame=number)
            if writer is not None:
                writer.write(found.plot()[..., ::-1])
            bar.update()
    print(file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    parser, args = parse(sys.argv[1:] if argv is None else argv)
    broken: list[str] = []
    keep_freed_memory()
    try:
        is_video = args.input.suffix.lower() in VIDEO_SUFFIXES and args.input.is_file()
        source = Video(args.input) if is_video else find_files(args.input, args.out)
        check_writable(args.out)
        model = load(
            args.config, args.checkpoint, args.device, options=args.cfg_options, tta=args.tta
        )
        amp = args.amp
        if amp == 'auto':
            amp = 'fp16' if model.device.type == 'cuda' else 'bf16'
        options = {'score_thr': args.score_thr, 'classes': args.classes, 'amp': amp}
        options['batch_size'] = args.batch
        results = Results(args.out, model.classes, pictures=not args.no_pictures)
        if isinstance(source, Video):
            predict_video(model, source, results, **options)
        else:
            broken = predict_files(model, source, results, **options)
    except (OSError, ValueError, FloatingPointError) as error:
        parser.error(str(error))
    for line in broken:
        print(f'left out: {line}', file=sys.stderr)
    if not results.boxes.images:
        print('no image could be read', file=sys.stderr)
        return 1
    files = ', '.join(map(str, results.finish()))
    boxes = len(results.boxes.annotations)
    print(f'{boxes} objects in {len(results.boxes.images)} images: {files}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

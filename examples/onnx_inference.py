#!/usr/bin/env python3
"""Find objects with an exported model: ONNX Runtime, NumPy and Pillow are all it needs.

    python examples/onnx_inference.py detr-r50.onnx image.jpg
    python examples/onnx_inference.py detr-r50.onnx image.jpg --score-thr 0.5 --out found.jpg

The file must come from tools/export.py: it says how pictures are resized and what the classes are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps


class Found(NamedTuple):
    """Detections of one picture, the best first."""

    boxes: np.ndarray  # (M, 4), left, top, right, bottom in pixels of the picture
    scores: np.ndarray  # (M,)
    names: list[str]


class Detector:
    """A file of tools/export.py, loaded.

    Args:
        path: of the file.
        providers: of ONNX Runtime, e.g. ``['CUDAExecutionProvider', 'CPUExecutionProvider']``.
    """

    def __init__(self, path: str, providers: Sequence[str] = ('CPUExecutionProvider',)) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=list(providers))
        stated = self.session.get_modelmeta().custom_metadata_map
        if 'classes' not in stated:
            raise ValueError(f'{path} must be a file of tools/export.py; export the model with it')
        self.classes = json.loads(stated['classes'])
        self.scale = json.loads(stated['scale'])  # (width, height)
        self.keep_ratio = json.loads(stated['keep_ratio'])
        self.divisor = json.loads(stated['divisor'])
        self.fixed = json.loads(stated['fixed'])  # (height, width) or None

    def size(self, picture: Image.Image) -> tuple[int, int]:
        """(width, height) that the picture is resized to."""
        width, height = picture.size
        limits = tuple(self.scale if self.fixed is None else reversed(self.fixed))
        if not self.keep_ratio:
            return limits
        if self.fixed is None:  # the scale says how long the longer and the shorter side may be
            long, short = max(limits), min(limits)
            factor = min(long / max(width, height), short / min(width, height))
        else:
            factor = min(limits[0] / width, limits[1] / height)
        return max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))

    def inputs(self, picture: Image.Image) -> dict[str, np.ndarray]:
        """A batch of one: the resized picture in the corner of an image that the model can take."""
        width, height = self.size(picture)
        pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        rows, columns = self.fixed or (
            -(-side // self.divisor) * self.divisor for side in (height, width)
        )
        images = np.zeros((1, 3, rows, columns), np.uint8)
        images[0, :, :height, :width] = pixels.transpose(2, 0, 1)
        given = {'images': images}
        if self.keep_ratio:
            given['sizes'] = np.array([[height, width]], np.int64)
        return given

    def __call__(self, picture: Image.Image, score_thr: float = 0.3) -> Found:
        """The objects of a picture with at least this score."""
        picture = ImageOps.exif_transpose(picture).convert('RGB')
        given = self.inputs(picture)
        names = [output.name for output in self.session.get_outputs()]
        outputs = dict(zip(names, self.session.run(names, given)))
        boxes, scores, labels = (outputs[name][0] for name in ('boxes', 'scores', 'labels'))
        order = np.argsort(-scores, kind='stable')
        order = order[(scores[order] >= score_thr) & (labels[order] >= 0)]
        factors = np.divide(picture.size, self.size(picture))
        boxes = (boxes[order] * np.tile(factors, 2)).clip(0, np.tile(picture.size, 2))
        return Found(boxes, scores[order], [self.classes[label] for label in labels[order]])


def draw(picture: Image.Image, found: Found) -> Image.Image:
    """A copy of the picture with the boxes."""
    drawn = ImageOps.exif_transpose(picture).convert('RGB')
    pen = ImageDraw.Draw(drawn)
    for box, score, name in zip(*found):
        pen.rectangle(tuple(box), outline=(230, 60, 40), width=2)
        pen.text((box[0] + 3, box[1] + 2), f'{name} {score:.2f}', fill=(230, 60, 40))
    return drawn


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', help='file of tools/export.py')
    parser.add_argument('image', type=Path)
    parser.add_argument('--score-thr', type=float, default=0.3, help='lowest score (0.3)')
    parser.add_argument('--out', type=Path, help='draw the boxes into this file')
    args = parser.parse_args(argv)
    try:
        picture = Image.open(args.image)
    except OSError as error:
        parser.error(f'image must be a picture that Pillow reads, got {args.image}: {error}')
    found = Detector(args.model)(picture, args.score_thr)
    for box, score, name in zip(*found):
        print(f'{name} {score:.3f} {" ".join(f"{side:.1f}" for side in box)}')
    if args.out:
        draw(picture, found).save(args.out)
    return 0


if __name__ == '__main__':
    sys.exit(main())

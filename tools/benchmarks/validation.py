#!/usr/bin/env python3
"""Time of what a run checks in its annotation files before it starts.

    python tools/benchmarks/validation.py

A file as large as COCO's train2017 is made in a temporary folder: 118,000 images, 800,000 objects with
polygons of 20 points.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mmdet.datasets import CocoDataset
from mmengine.config import Config
from PIL import Image

from mmdetr_plugin.datasets.agreement import check_agreement
from mmdetr_plugin.datasets.annotations import files_kept
from mmdetr_plugin.datasets.completion import complete
from mmdetr_plugin.datasets.validation import validate

ROOT = Path(__file__).resolve().parents[2]
SIZE = (640, 480)
FILES = 200  # pictures on the disk, each listed several times


def record(i: int, images: int, draw: random.Random) -> dict:
    """A COCO object: a box inside the picture, and a polygon inside the box."""
    width, height = draw.uniform(8, 300), draw.uniform(8, 200)
    left, top = draw.uniform(0, SIZE[0] - width), draw.uniform(0, SIZE[1] - height)
    polygon = []
    for _ in range(20):
        polygon += [round(left + width * draw.random(), 2), round(top + height * draw.random(), 2)]
    return {
        'id': i + 1,
        'image_id': i % images + 1,
        'category_id': i % 80 + 1,
        'bbox': [round(x, 2) for x in (left, top, width, height)],
        'area': round(width * height / 2, 4),
        'iscrowd': 0,
        'segmentation': [polygon],
    }


def write(folder: Path, images: int, objects: int) -> Path:
    """The annotation file, with its pictures beside it."""
    draw = random.Random(0)
    names = CocoDataset.METAINFO['classes']
    for i in range(FILES):
        Image.new('RGB', SIZE).save(folder / f'{i}.png')
    size = dict(zip(('width', 'height'), SIZE))
    coco = {
        'images': [{'id': i + 1, 'file_name': f'{i % FILES}.png', **size} for i in range(images)],
        'annotations': [record(i, images, draw) for i in range(objects)],
        'categories': [{'id': i, 'name': name} for i, name in enumerate(names, start=1)],
    }
    file = folder / 'train.json'
    file.write_text(json.dumps(coco), encoding='utf-8')
    return file


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument('--images', type=int, default=118_000)
    options.add_argument('--objects', type=int, default=800_000)
    args = options.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = write(folder, args.images, args.objects)
        cfg = Config.fromfile(ROOT / 'configs/detr_r50.py')
        cfg.train_dataloader.dataset.update(
            data_root=f'{folder}/', ann_file=file.name, data_prefix={'img': ''}
        )
        megabytes = file.stat().st_size / 1e6
        start, used = time.perf_counter(), time.process_time()
        with files_kept():
            complete(cfg)
            check_agreement(cfg, ('train',))
            validate(cfg, ('train',))
        seconds, used = time.perf_counter() - start, time.process_time() - used
    print(
        f'{args.objects} objects, {megabytes:.0f} MB: checked in {seconds:.1f} s, '
        f'{used:.1f} s of processor time'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())

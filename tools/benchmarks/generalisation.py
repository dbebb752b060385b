#!/usr/bin/env python3
"""More objects than in any training picture (DETR, figure 5): up to 5 digits there, up to 24 here.

    python tools/benchmarks/generalisation.py
    python tools/benchmarks/generalisation.py --checkpoint work_dirs/demo/epoch_3.pth

Without a checkpoint, the demo's model is trained first, as `make demo` does it. The test pictures have
1 to 24 small digits of a size that occurs in training: all the same digit in several handwritings, as
DETR's giraffes, or different ones. The work dir gets table.md, curve.png and pictures.jpg.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

if 'OMP_WAIT_POLICY' not in os.environ:  # read when torch is loaded: docs/training.md
    os.environ.setdefault('GOMP_SPINCOUNT', '20000')

import cv2
import numpy as np
from matplotlib.figure import Figure
from mmengine.runner import Runner
from pycocotools.coco import COCO
from tqdm import tqdm

from mmdetr_plugin.checkpoints import written_whole
from mmdetr_plugin.checkpoints.resume import latest_checkpoint
from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.datasets.digits.build import GLYPHS, NUM_TRAIN
from mmdetr_plugin.datasets.digits.coco import DIGIT_CLASSES, write_split
from mmdetr_plugin.datasets.digits.material import Material, load_material
from mmdetr_plugin.datasets.digits.scene import MAX_GLYPHS, Scene, draw_scene
from mmdetr_plugin.evaluation.boxes import BoxEvaluation, Found
from mmdetr_plugin.inference import ImageDetections, Predictor, load
from mmdetr_plugin.testing import config_path, project_root, quiet
from mmdetr_plugin.testing.benchmark import table
from mmdetr_plugin.testing.digits_training import demo_config
from mmdetr_plugin.visualization.charts import chart
from mmdetr_plugin.visualization.grid import Picture, draw_grid

ROOT = project_root()
COUNTS = (1, 3, 5, 8, 12, 16, 20, 24)
KINDS = ('one digit', 'all digits')
SIDE = 160
HEIGHTS = (0.125, 0.175)
"""The height of the digits as a share of the picture's side; in training it is up to 0.4."""
SCORE = 0.4
"""A digit counts as found if it is detected with this score or more, at IoU 0.5 or more."""
SHOWN = (5, 12, 24)


@dataclass(frozen=True)
class Row:
    """The results for a number of digits in the picture: shares of digits, and detections a picture."""

    number: int
    kind: str
    found: float
    false: float
    ap50: float


def train(args: argparse.Namespace) -> Path:
    """Train the demo's model, or continue; returns its weights."""
    work_dir = args.work_dir / 'training'
    cfg = demo_config(config_path('digits_dino'), args.data, work_dir, args.epochs)
    last = work_dir / f'epoch_{cfg.train_cfg.max_epochs}.pth'
    if not last.is_file():
        make_digits(args.data, num_train=args.num_train)
        latest, _ = latest_checkpoint(work_dir)
        cfg.resume, cfg.load_from = latest is not None, latest and str(latest)
        print(f'training in {work_dir}', file=sys.stderr)
        work_dir.mkdir(parents=True, exist_ok=True)
        with (work_dir / 'training.log').open('a') as log, quiet(log):
            Runner.from_cfg(cfg).train()
    return last


def scenes(material: Material, kind: str, number: int, pictures: int, seed: int) -> Iterator[Scene]:
    """Pictures of ``number`` digits in handwritings that are not trained on."""
    for i in range(pictures):
        rng = np.random.RandomState([seed, KINDS.index(kind), number, i])
        glyphs: Sequence[int] = GLYPHS['val']
        if kind == 'one digit':
            digit = i % len(DIGIT_CLASSES)
            glyphs = [glyph for glyph in glyphs if material.labels[glyph] == digit]
        yield draw_scene(rng, material, glyphs, SIDE, number, HEIGHTS)


def evaluate(
    model: Predictor, folder: Path, kind: str, number: int
) -> tuple[Row, COCO, list[ImageDetections]]:
    """Detect in the pictures of a folder and compare with its annotations."""
    with quiet(io.StringIO()):
        truth = COCO(folder / 'annotations' / 'test.json')
    images = truth.dataset['images']
    paths = [str(folder / 'test' / image['file_name']) for image in images]
    seen = list(model.stream(paths, score_thr=0.0, batch_size=8))
    found = [
        Found(image['id'], each.boxes, each.scores, each.labels)
        for image, each in zip(images, seen, strict=True)
    ]
    evaluation = BoxEvaluation(truth, model.classes, found)
    matches = evaluation.matches
    kept = matches.scores >= SCORE
    hits = int((kept & (matches.truths >= 0)).sum())
    false = (int(kept.sum()) - hits) / len(images)
    share = hits / len(matches.true_labels)
    return Row(number, kind, share, false, evaluation.ap(0.5)), truth, seen


def picture(truth: COCO, seen: ImageDetections, number: int) -> Picture:
    """The picture ``number`` of a folder with its true and found boxes, enlarged."""
    entries = truth.imgToAnns[truth.dataset['images'][number]['id']]
    boxes = np.array([entry['bbox'] for entry in entries], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([entry['category_id'] - 1 for entry in entries])
    return Picture(seen.image, seen.boxes, seen.labels, seen.scores, boxes, labels)


def curve(rows: Sequence[Row]) -> Figure:
    """The share of digits that is found against their number in the picture."""
    figure, axes = chart(
        f'Trained with at most {MAX_GLYPHS} digits in a picture',
        'digits in the test picture',
        'share of the digits found',
    )
    for kind in KINDS:
        chosen = [row for row in rows if row.kind == kind]
        axes.plot([r.number for r in chosen], [r.found for r in chosen], marker='o', label=kind)
    axes.axvline(MAX_GLYPHS, color='grey', linestyle='--', label='most in training')
    axes.set(ylim=(0, 1.02), xticks=sorted({row.number for row in rows}))
    figure.legend(loc='outside lower center', ncols=3, fontsize='small')
    return figure


def report(rows: Sequence[Row]) -> str:
    """A table of all results."""
    cells = [['digits', *(f'{kind}: {x}' for kind in KINDS for x in ('found', 'false', 'AP50'))]]
    for number in dict.fromkeys(row.number for row in rows):
        line = [str(number)]
        for row in (row for row in rows if row.number == number):
            line += [f'{100 * row.found:.1f} %', f'{row.false:.2f}', f'{row.ap50:.3f}']
        cells.append(line)
    return table(cells)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--checkpoint', type=Path, help='weights of digits_dino (trained first)')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/generalisation')
    parser.add_argument('--data', type=Path, default=ROOT / 'data/digits', help='the digits set')
    parser.add_argument('--num-train', type=int, default=NUM_TRAIN, help='training images')
    parser.add_argument('--epochs', type=int, help='of the training (the config: 3)')
    parser.add_argument('--pictures', type=int, default=40, help='test pictures of each number')
    parser.add_argument('--counts', type=int, nargs='+', default=COUNTS, help='digits in a picture')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    try:
        model = load('digits_dino', args.checkpoint or train(args), 'cpu')
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    material = load_material()
    rows, shown = [], []
    cases = [(number, kind) for number in args.counts for kind in KINDS]
    for number, kind in tqdm(cases, unit='case'):
        folder = args.work_dir / 'pictures' / f'{kind.split()[0]}_{number:02}'
        write_split(folder, 'test', scenes(material, kind, number, args.pictures, args.seed))
        row, truth, seen = evaluate(model, folder, kind, number)
        rows.append(row)
        if number in SHOWN or len(args.counts) < len(SHOWN):
            shown.append(picture(truth, seen[-1], len(seen) - 1))
    grid = draw_grid(shown, model.classes, columns=len(KINDS) * 3, scale=2, score_thr=SCORE)
    jpeg = cv2.imencode('.jpg', grid[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    with written_whole(args.work_dir / 'pictures.jpg') as file:
        file.write(jpeg.tobytes())
    with written_whole(args.work_dir / 'curve.png') as file:
        curve(rows).savefig(file, format='png', dpi=110)
    with written_whole(args.work_dir / 'table.md') as file:
        file.write(report(rows).encode())
    print(report(rows), end='')
    return 0


if __name__ == '__main__':
    sys.exit(main())

"""The report of a run: its sections, in their order, and the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints import written_whole
from ..detector import DETR
from ..evaluation.boxes import SIZES
from ..evaluation.errors import error_breakdown
from ..inference.loading import load
from ..inference.output import check_writable
from ..inference.predictor import Predictor
from ..inference.scene import look
from ..inference.validation import Track, Validation, validate
from ..visualization.attention import decoder_figure
from ..visualization.runs import losses_figure, metrics_figure, metrics_of, rate_figure, values_of
from ..visualization.scores import (
    classes_figure,
    errors_figure,
    layer_scores,
    layers_figure,
    precision_figure,
    sizes_figure,
)
from .examples import Example, drawn, ranked
from .page import Page, picture_address, raster_address
from .slot_table import HEADER, count, slots, summary
from .speed import measure
from .work_dir import WorkDir

OBJECTS = 4
"""Number of objects whose attention is drawn."""


@dataclass(frozen=True)
class Run:
    """What the sections show."""

    work_dir: WorkDir
    checkpoint: Path
    predictor: Predictor
    validation: Validation
    examples: tuple[Example, ...]
    """All validation images, the best one first."""
    images: int
    """Number of the best and of the worst images to draw."""


def write_report(
    work_dir: Path,
    out: Path | None = None,
    checkpoint: Path | None = None,
    config: Path | None = None,
    device: str | None = None,
    options: Mapping[str, Any] | None = None,
    images: int = 4,
    track: Track = iter,
) -> Path:
    """Evaluate a run and write a page about it, one file without references to others.

    Args:
        work_dir: the folder that training wrote.
        out: of the page; None = ``report.html`` in the work dir. It is written whole or not at all.
        checkpoint: None = the best one in the work dir, or else the latest.
        config: None = the one in the work dir.
        device: None = a GPU if there is one.
        options: values that replace those of the config.
        images: number of the best and of the worst images to draw.
        track: wraps the batches of the evaluation, to show progress.

    Returns:
        The file.

    Raises:
        FileNotFoundError: the work dir, the checkpoint or the validation data do not exist.
        PermissionError: the page cannot be written.
        ValueError: the folder is not that of a run, or has no usable checkpoint.
    """
    opened = WorkDir.open(work_dir, config)
    out = out or work_dir / 'report.html'
    weights = checkpoint or opened.checkpoint()
    if not weights.is_file():
        raise FileNotFoundError(f'the checkpoint must be a file, got {weights}; check the path')
    check_writable(out.parent)
    predictor = load(opened.config, weights, device, options=options)
    validation = validate(predictor, track)
    found = ranked(validation.evaluation(), [*validation.paths])
    page = make_page(Run(opened, weights, predictor, validation, tuple(found), images))
    with written_whole(out) as file:
        file.write(page.render().encode())
    return out


def make_page(run: Run) -> Page:
    """The page of a run."""
    number = len(run.validation.paths)
    page = Page(run.work_dir.name, f'{run.checkpoint.name}, evaluated on {number:,} images')
    for add in (_results, _curves, _layers, _errors, _examples, _attention, _speed, _start, _model):
        add(page, run)
    page.section('Config')
    page.code(run.work_dir.config.read_text(encoding='utf-8'), 'the whole config')
    return page


def _results(page: Page, run: Run) -> None:
    evaluation = run.validation.evaluation()
    page.section('Results')
    _, everything = count([run.predictor.model])
    cards = [('AP', None), ('AP50', 0.5), ('AP75', 0.75)]
    page.cards(
        [
            *((name, _score(evaluation.ap(iou))) for name, iou in cards),
            ('objects', f'{evaluation.counts().sum():,}'),
            ('parameters', f'{everything / 1e6:.2f} M'),
        ]
    )
    page.text('AP is the mean over IoU 0.50 to 0.95, by pycocotools.')
    page.charts([sizes_figure(evaluation), classes_figure(evaluation)])
    counts = evaluation.counts()
    rows = [
        [name, f'{counts[i]:,}', *(_score(evaluation.ap(iou, label=i)) for _, iou in cards)]
        for i, name in enumerate(evaluation.classes)
    ]
    rows.append(
        ['all', f'{counts.sum():,}', *(_score(evaluation.ap(iou)) for _, iou in cards)],
    )
    sizes = [
        [size, *(_score(evaluation.ap(iou, size=size)) for _, iou in cards)] for size in SIZES[1:]
    ]
    header = ['AP', 'AP50', 'AP75']
    page.tables(
        [['class', 'objects', *header], *rows], [['size', *header], *sizes], numbers=(1, 2, 3, 4)
    )


def _curves(page: Page, run: Run) -> None:
    page.section('Training')
    scalars = run.work_dir.scalars
    steps = [entry for entry in scalars if 'loss' in entry]
    if not steps:
        page.text('The work dir holds no record of the training (vis_data/scalars.json).')
        return
    names = [name for name in steps[-1] if name.startswith('loss')]
    charts = [losses_figure({name: values_of(steps, name) for name in names})]
    metrics = [name for name in metrics_of(scalars) if name.endswith(('mAP', 'mAP_50', 'PQ'))]
    if metrics:
        charts.append(metrics_figure({name: values_of(scalars, name) for name in metrics}))
    charts.append(rate_figure(values_of(steps, 'lr')))
    page.charts(charts)


def _layers(page: Page, run: Run) -> None:
    page.section('Decoder layers')
    if not isinstance(run.predictor.model, DETR):
        page.text('Only models of this project predict after every decoder layer.')
        return
    page.text(
        'AP after each decoder layer, as it is and after non-maximum suppression (NMS) at IoU 0.5. '
        'Where the line with NMS is higher, the layer still finds objects twice (DETR, figure 4).'
    )
    scores = layer_scores(run.validation)
    page.charts([layers_figure(scores)])
    header = ['layer', *scores]
    rows = [[str(i + 1), *map(_score, values)] for i, values in enumerate(zip(*scores.values()))]
    page.tables([header, *rows], numbers=range(1, len(header)))


def _errors(page: Page, run: Run) -> None:
    page.section(
        'Errors',
        'The bars show by how much AP50 would rise without the errors of a kind (TIDE); their number, '
        'in brackets, counts detections of any score.',
    )
    evaluation = run.validation.evaluation()
    errors = error_breakdown(evaluation.matches)
    page.charts([errors_figure(errors), precision_figure(evaluation)])


def _examples(page: Page, run: Run) -> None:
    page.section(
        'Images',
        'White: the truth. Coloured: what was found, with its class and score (0.4 or more).',
    )
    number = min(run.images, len(run.examples))
    best, worst = run.examples[:number], run.examples[len(run.examples) - number :][::-1]
    for title, examples in (('The worst', worst), ('The best', best)):
        page.text(f'{title}:')
        page.pictures(
            [
                (
                    picture_address(drawn(run.validation, example)),
                    'an image with true and found boxes',
                    f'{Path(run.validation.paths[example.image_id]).name}: {example}',
                )
                for example in examples
            ]
        )


def _attention(page: Page, run: Run) -> None:
    page.section('Attention')
    if not isinstance(run.predictor.model, DETR) or not run.examples:
        page.text('Only models of this project are drawn.')
        return
    path = run.validation.paths[run.examples[0].image_id]
    page.text(
        f'Where the queries of objects of {Path(path).name} look in the last decoder layer, heads '
        'averaged. Deformable attention reads single places, coloured by weight.'
    )
    scene = look(run.predictor, path, OBJECTS)
    pictures = []
    for i, name in enumerate(scene.names):
        one = replace(
            scene,
            boxes=scene.boxes[i : i + 1],
            names=[name],
            scores=scene.scores[i : i + 1],
            queries=scene.queries[i : i + 1],
        )
        pictures.append((raster_address(decoder_figure(one)), f'attention of {name}', ''))
    page.pictures(pictures, 'charts')


def _speed(page: Page, run: Run) -> None:
    page.section('Speed')
    speed = measure(run.predictor)
    height, width = speed.size
    rows = [
        ['what', 'value'],
        ['one image', f'{speed.milliseconds:.1f} ms, median of {speed.runs}'],
        ['input', f'{height} x {width} pixels'],
        ['device', speed.device],
    ]
    times = [entry['time'] for entry in run.work_dir.scalars if 'loss' in entry and 'time' in entry]
    if times:
        rows.append(['training step', f'{np.median(times):.3f} s, median of the log'])
    page.tables(rows)
    page.text('From the preprocessor to the detections, without loading the image.')


def _start(page: Page, run: Run) -> None:
    page.section('What was loaded')
    cfg = run.work_dir.cfg
    init = cfg.model.get('backbone', {}).get('init_cfg') or {}
    otherwise = 'from load_from' if cfg.get('load_from') else 'random values'
    page.tables(
        [
            ['what', 'value'],
            ['weights of this page', run.checkpoint.name],
            ['load_from', str(cfg.get('load_from') or 'nothing')],
            ['backbone', str(init.get('checkpoint') or otherwise)],
        ]
    )
    for file, table in run.work_dir.loaded():
        page.text(f'From {file}:')
        page.code(table)


def _model(page: Page, run: Run) -> None:
    page.section('Model and schedule')
    cfg, model = run.predictor.model.cfg, run.predictor.model
    rows = [slot.cells() for slot in slots(cfg.model, [model])]
    trained = [f'{number:,}' for number in count([model])]
    page.tables([HEADER, *rows, ('total', type(model).__name__, *trained, '')], numbers=(2, 3))
    page.tables([('what', 'value'), *((name.strip(), x) for name, x in summary(cfg, model))])


def _score(value: float) -> str:
    return '-' if np.isnan(value) else f'{value:.3f}'

"""Figures of attention, queries and runs: they show what they should, and their text is legible."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from unittest import mock

import mmcv
import numpy as np
import pytest
import tiny
import torch
from cli import TOOLS, load
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from mmdetr_plugin.inference import Predictor
from mmdetr_plugin.inference.scene import Scene, look, predicted_boxes
from mmdetr_plugin.visualization.attention import (
    decoder_figure,
    encoder_figure,
    heads_figure,
    joined_map,
    token_at,
)
from mmdetr_plugin.visualization.queries import slots_figure
from mmdetr_plugin.visualization.runs import curves_figure, read_run

VISUALIZE = load(TOOLS / 'visualize.py')
IMAGE = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
LONG = [f'a class with a rather long name {i}' for i in range(tiny.NUM_CLASSES)]


def predictor(name: str) -> Predictor:
    cfg = tiny.load(name)
    pipeline = cfg.test_dataloader.dataset.pipeline
    for step in pipeline:
        if step['type'] == 'Resize':
            step['scale'] = (135, 90)
    return Predictor(tiny.build(name), pipeline, LONG)


@pytest.fixture(scope='module')
def dense() -> Predictor:
    return predictor('conditional_detr_r50')


@pytest.fixture(scope='module')
def scene(dense: Predictor) -> Scene:
    return look(dense, IMAGE)


def texts(figure: Figure) -> list[Text]:
    """The texts of a figure that are drawn, after its layout."""
    drawn = set()  # ticks beyond an axis are objects too, but are not drawn
    draw_text = RendererAgg.draw_text

    def keep(
        renderer: RendererAgg, gc: object, x: float, y: float, text: str, *more: object, **rest
    ):
        drawn.add(text)
        return draw_text(renderer, gc, x, y, text, *more, **rest)

    with mock.patch.object(RendererAgg, 'draw_text', keep):
        figure.canvas.draw()
    every = [text for text in figure.findobj(Text) if text.get_visible()]
    return [text for text in every if drawn & set(text.get_text().split('\n')) - {''}]


def assert_legible(figure: Figure) -> None:
    """No text covers another or leaves the figure."""
    shown = texts(figure)
    assert shown
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    for (one, box), (other, covered) in itertools.combinations(boxes, 2):
        assert not box.overlaps(covered), f'{one!r} and {other!r}'
    width, height = figure.canvas.get_width_height()
    for text, box in boxes:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, text


def test_a_scene_is_the_prediction(dense: Predictor, scene: Scene) -> None:
    found = dense(IMAGE, score_thr=0.0)
    assert scene.scores[0] == pytest.approx(found.scores.max())
    assert scene.names[0] == found.names[int(found.scores.argmax())]
    assert len(set(scene.queries)) == len(scene.queries) == 4
    boxes = predicted_boxes(dense, IMAGE)[scene.queries] * np.tile(IMAGE.shape[1::-1], 2)
    assert np.allclose(boxes[:, 2:], scene.boxes[:, 2:] - scene.boxes[:, :2], atol=1e-3)
    height, width = IMAGE.shape[:2]
    assert scene.canvas[0] >= width and scene.canvas[1] >= height


@pytest.mark.parametrize(
    'name',
    [
        'conditional_detr_r50',
        'deformable_detr_r50',
        'smca_detr_ms_r50',
        'anchor_detr_r50',
        'sam_detr_r50',
    ],
)
def test_figures_of_attention(name: str) -> None:
    view = look(predictor(name), IMAGE)
    figures = {'decoder': decoder_figure(view), 'heads': heads_figure(view, 1, 0)}
    if name == 'smca_detr_ms_r50':
        with pytest.raises(ValueError, match='layer must be one of the 0 encoder layers'):
            encoder_figure(view)
    else:
        figures['encoder'] = encoder_figure(view, [(20, 30), (80, 50)], 0)
        assert 'point (20, 30)' in [text.get_text() for text in texts(figures['encoder'])]
    for figure in figures.values():
        assert_legible(figure)
    titles = [text.get_text() for text in texts(figures['heads'])]
    heads = view.records.decoder().values.shape[1]
    assert {f'head {i + 1}' for i in range(heads)} <= set(titles)
    rows = {
        'conditional_detr_r50': {'content', 'spatial', 'combined'},
        'smca_detr_ms_r50': {'gaussian', 'combined'},
        'anchor_detr_r50': {'columns', 'rows', 'combined'},
    }
    parts = {'content', 'spatial', 'combined', 'gaussian', 'rows', 'columns'}
    assert rows.get(name, {'combined'}) == set(titles) & parts
    crosses = [line for axes in figures['heads'].axes for line in axes.lines]
    assert len(crosses) == (heads if name == 'sam_detr_r50' else 0), 'the salient points'


def test_maps_of_levels_are_added_up() -> None:
    shapes = ((4, 6), (2, 3))
    weights = torch.zeros(30)
    weights[:24], weights[24:] = 0.5 / 24, 0.5 / 6
    assert joined_map(weights, shapes) == pytest.approx(np.full((4, 6), 1 / 24))


def test_points_have_tokens(scene: Scene) -> None:
    width, height = scene.canvas
    shapes = ((2, 3), (4, 6))  # the finest need not come first
    assert token_at(scene, shapes, 0, 0) == 6
    x, y = 0.4 * width, 0.3 * height
    assert token_at(scene, shapes, x, y) == 6 + int(4 * y / height) * 6 + int(6 * x / width)
    with pytest.raises(ValueError, match='a point must lie in the image, 90 x 60'):
        encoder_figure(scene, [(90, 5)])
    with pytest.raises(ValueError, match='one of the 4 that were found'):
        heads_figure(scene, 4)


def test_slots_of_queries() -> None:
    generator = np.random.default_rng(1)
    figure = slots_figure(generator.random((30, 7, 4)), queries=9)
    assert_legible(figure)
    dots = sum(len(c.get_offsets()) for axes in figure.axes for c in axes.collections)
    assert dots == 30 * 7
    with pytest.raises(ValueError, match='at least one image'):
        slots_figure(np.zeros((0, 7, 4)))


@pytest.fixture
def work_dirs(tmp_path: Path) -> list[Path]:
    """Two runs; the first was interrupted and resumed."""
    for run, values in (
        ('one/a', {1: 0.1, 2: 0.3}),
        ('one/b', {2: 0.2, 3: 0.4}),
        ('two/a', {1: 0.2}),
    ):
        folder = tmp_path / run / 'vis_data'
        folder.mkdir(parents=True)
        lines = [json.dumps({'coco/bbox_mAP': v, 'step': k}) for k, v in values.items()]
        lines.insert(0, json.dumps({'loss': 1.0, 'step': 50}))
        (folder / 'scalars.json').write_text('\n'.join(lines))
    return [tmp_path / 'one', tmp_path / 'two']


def test_curves_of_runs(work_dirs: list[Path], tmp_path: Path) -> None:
    assert read_run(work_dirs[0]) == [(1, 0.1), (2, 0.2), (3, 0.4)]
    assert_legible(curves_figure({folder.name: read_run(folder) for folder in work_dirs}))
    out = tmp_path / 'curves.png'
    assert VISUALIZE.main(['curves', *map(str, work_dirs), '--out', str(out)]) == 0
    assert mmcv.imread(str(out)).std() > 1
    with pytest.raises(ValueError, match=r"it has \['coco/bbox_mAP'\]"):
        read_run(work_dirs[0], 'coco/segm_mAP')


@pytest.mark.parametrize('kind', ['decoder', 'encoder', 'heads', 'slots'])
def test_command(
    kind: str, dense: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VISUALIZE, 'load', lambda *_: dense)
    (tmp_path / 'in').mkdir()
    mmcv.imwrite(IMAGE, str(tmp_path / 'in' / 'image.png'))
    source = tmp_path / 'in' if kind == 'slots' else tmp_path / 'in' / 'image.png'
    out = tmp_path / f'{kind}.svg'
    assert VISUALIZE.main([kind, str(source), 'CONFIG', 'CHECKPOINT', '--out', str(out)]) == 0
    assert '<svg' in out.read_text()
    for wrong in (['--out', str(out.with_suffix('.xyz'))], ['--out', str(out), '--layer', '9']):
        if kind != 'slots' or '--layer' not in wrong:
            with pytest.raises(SystemExit):
                VISUALIZE.main([kind, str(source), 'CONFIG', 'CHECKPOINT', *wrong])

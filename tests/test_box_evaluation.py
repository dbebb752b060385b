"""Scores of boxes: equal to COCO's, and errors of every kind sorted and priced as TIDE defines them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from mmdet.evaluation import CocoMetric
from pycocotools.coco import COCO
from test_figures import assert_legible, texts

from mmdetr_plugin.evaluation.boxes import BoxEvaluation, Found
from mmdetr_plugin.evaluation.errors import KINDS, error_breakdown, mean_precision
from mmdetr_plugin.inference.validation import Validation, without_doubles
from mmdetr_plugin.visualization.scores import (
    classes_figure,
    errors_figure,
    layer_scores,
    layers_figure,
    precision_figure,
    sizes_figure,
)

CLASSES = ('cat', 'dog', 'a class with a rather long name')
Box = tuple[float, float, float, float]


def coco(objects: list[tuple[int, int, Box]], images: int, crowd: int | None = None) -> COCO:
    """Annotations of (image, label, box as left, top, right, bottom)."""
    made = COCO()
    annotations = []
    for i, (image, label, (left, top, right, bottom)) in enumerate(objects):
        box = [left, top, right - left, bottom - top]
        entry = {'id': i + 1, 'image_id': image, 'category_id': 10 + label, 'bbox': box}
        annotations.append({**entry, 'area': box[2] * box[3], 'iscrowd': int(i == crowd)})
    made.dataset = {
        'images': [{'id': i, 'width': 200, 'height': 200} for i in range(images)],
        'annotations': annotations,
        'categories': [{'id': 10 + i, 'name': name} for i, name in enumerate(CLASSES)],
    }
    made.createIndex()
    return made


def found(image: int, *rows: tuple[int, float, Box]) -> Found:
    labels, scores, boxes = zip(*rows) if rows else ((), (), ())
    return Found(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
    )


def noisy(seed: int, images: int = 30) -> tuple[COCO, list[Found]]:
    """Random objects, and detections near and far from them."""
    generator = np.random.default_rng(seed)
    objects, detections = [], []
    for image in range(images):
        rows = []
        for _ in range(generator.integers(0, 5)):
            corner, size = generator.uniform(0, 120, 2), generator.uniform(10, 80, 2)
            box = np.concatenate([corner, corner + size])
            label = int(generator.integers(3))
            objects.append((image, label, tuple(box)))
            for _ in range(generator.integers(0, 3)):
                moved = box + generator.normal(0, 0.15, 4) * np.tile(size, 2)
                other = label if generator.random() < 0.8 else int(generator.integers(3))
                rows.append((other, float(generator.random()), tuple(moved)))
        detections.append(found(image, *rows))
    return coco(objects, images, crowd=3), detections


@pytest.mark.parametrize('seed', range(3))
def test_scores_are_those_of_mmdets_metric(seed: int) -> None:
    truth, detections = noisy(seed)
    evaluation = BoxEvaluation(truth, CLASSES, detections)
    metric = CocoMetric(metric='bbox', classwise=True)
    metric.dataset_meta = {'classes': CLASSES}
    metric._coco_api, metric.cat_ids = truth, [10, 11, 12]
    metric.img_ids = [image.image_id for image in detections]
    results = [
        (
            {},
            {
                'img_id': image.image_id,
                'bboxes': image.boxes,
                'scores': image.scores,
                'labels': image.labels,
            },
        )
        for image in detections
    ]
    expected = metric.compute_metrics([(truth_entry, r) for truth_entry, r in results])
    assert evaluation.ap() == pytest.approx(expected['bbox_mAP'], abs=6e-4)
    assert evaluation.ap(0.5) == pytest.approx(expected['bbox_mAP_50'], abs=6e-4)
    assert evaluation.ap(0.75) == pytest.approx(expected['bbox_mAP_75'], abs=6e-4)
    assert evaluation.ap(size='small') == pytest.approx(expected['bbox_mAP_s'], abs=6e-4)
    assert evaluation.ap(label=1) == pytest.approx(expected['dog_precision'], abs=6e-4)
    assert mean_precision(evaluation.matches, evaluation.matches.true_labels) == pytest.approx(
        evaluation.ap(0.5), abs=1e-6
    )


def test_classes_that_are_not_annotated_are_not_scored() -> None:
    truth = coco([(0, 0, (0, 0, 10, 10))], 1)
    names = ('sky', 'cat')  # the model also finds stuff
    evaluation = BoxEvaluation(
        truth, names, [found(0, (1, 0.9, (0, 0, 10, 10)), (0, 1.0, (0, 0, 9, 9)))]
    )
    assert evaluation.classes == ('cat',)
    assert evaluation.ap() == pytest.approx(1) and len(evaluation.matches.scores) == 1
    assert np.isnan(evaluation.ap(size='large'))
    with pytest.raises(ValueError, match='categories named as the classes of the model'):
        BoxEvaluation(truth, ('sky',), [found(0)])


def test_an_image_without_detections() -> None:
    truth = coco([(0, 0, (0, 0, 10, 10))], 2)
    evaluation = BoxEvaluation(truth, CLASSES, [found(0), found(1)])
    assert evaluation.ap() == 0
    errors = error_breakdown(evaluation.matches)
    assert errors.counts == {**dict.fromkeys(KINDS, 0), 'missed': 1}


def test_each_error_is_of_its_kind() -> None:
    """One image for each kind; far from everything else lies nothing."""
    box = (50, 50, 150, 150)
    objects = [(image, 0, box) for image in range(6)]
    shifted = (110, 50, 210, 150)  # IoU 0.25
    detections = [
        found(0, (0, 0.9, box), (0, 0.5, box)),
        found(1, (1, 0.8, box)),
        found(2, (0, 0.7, shifted)),
        found(3, (1, 0.6, shifted)),
        found(4, (0, 0.5, (0, 0, 20, 20))),
        found(5),
    ]
    errors = error_breakdown(BoxEvaluation(coco(objects, 6), CLASSES, detections).matches)
    assert errors.counts == {
        'classification': 1,
        'localization': 1,
        'both': 1,
        'duplicate': 1,
        'background': 1,
        'missed': 3,  # images 3, 4 and 5: the first two kinds explain those of 1 and 2
    }
    assert errors.ap50 == pytest.approx(17 / 101)  # recall 1/6 at precision 1
    # Hits 0.9 and 0.8 come first: recall 1/3, that is 34 of the 101 recalls.
    assert errors.costs['classification'] == pytest.approx(17 / 101)
    assert errors.costs['localization'] == pytest.approx((17 + 17) / 101 - 17 / 101)
    assert errors.costs['both'] == errors.costs['background'] == 0
    assert errors.costs['missed'] == pytest.approx(34 / 101 - 17 / 101)  # 1 of 3 objects is found


def test_an_object_is_corrected_to_once() -> None:
    box = (50, 50, 150, 150)
    rows = [(1, 0.9, box), (2, 0.8, box)]
    errors = error_breakdown(
        BoxEvaluation(coco([(0, 0, box)], 1), CLASSES, [found(0, *rows)]).matches
    )
    assert errors.counts['classification'] == 2
    assert errors.costs['classification'] == pytest.approx(1), 'the worse of the two is removed'


@pytest.mark.parametrize('seed', range(3))
def test_no_correction_costs_and_all_together_are_perfect(seed: int) -> None:
    truth, detections = noisy(seed)
    matches = BoxEvaluation(truth, CLASSES, detections).matches
    errors = error_breakdown(matches)
    assert all(cost >= -1e-9 for cost in errors.costs.values())
    assert sum(cost > 0 for cost in errors.costs.values()) >= 4
    hits = matches.truths >= 0
    false = {
        n: getattr(matches, n)[hits] for n in ('images', 'labels', 'scores', 'boxes', 'truths')
    }
    assert error_breakdown(replace(matches, **false)).costs['background'] == 0
    assert sum(errors.counts[kind] for kind in KINDS[:-1]) == (~hits).sum()


@pytest.fixture
def validation() -> Validation:
    truth, detections = noisy(0)
    doubled = tuple(
        Found(f.image_id, *(np.concatenate([x, x]) for x in (f.boxes, f.scores, f.labels)))
        for f in detections
    )
    return Validation(truth, CLASSES, {}, (doubled, tuple(detections)))


def test_suppression_removes_doubles(validation: Validation) -> None:
    scores = layer_scores(validation)
    assert set(scores) == {'AP', 'AP, NMS', 'AP50', 'AP50, NMS'}
    assert scores['AP'][0] < scores['AP'][1]
    assert scores['AP, NMS'][0] == pytest.approx(scores['AP, NMS'][1])
    first, second = (layer[2] for layer in validation.layers)
    assert len(without_doubles(first).scores) == len(without_doubles(second).scores)
    assert validation.evaluation(0) is validation.evaluation(-2)


def figures(validation: Validation) -> dict[str, Figure]:
    evaluation = validation.evaluation()
    return {
        'layers': layers_figure(layer_scores(validation)),
        'precision': precision_figure(evaluation),
        'errors': errors_figure(error_breakdown(evaluation.matches)),
        'sizes': sizes_figure(evaluation),
        'classes': classes_figure(evaluation),
    }


def test_figures_are_legible(validation: Validation) -> None:
    for name, figure in figures(validation).items():
        assert_legible(figure)
        axes = figure.axes[0]
        assert axes.get_title() and axes.get_xlabel(), name
    shown = {text.get_text() for text in texts(figures(validation)['errors'])}
    assert {text.split('\n')[0] for text in shown} >= set(KINDS)
    lines = figures(validation)['layers'].axes[0].lines
    assert [line.get_label() for line in lines] == ['AP', 'AP, NMS', 'AP50', 'AP50, NMS']


def test_many_classes_are_legible() -> None:
    names = tuple(f'class number {i:03}' for i in range(80))
    truth, detections = noisy(1)
    truth.dataset['categories'] = [{'id': 10 + i, 'name': name} for i, name in enumerate(names)]
    truth.createIndex()
    for i, entry in enumerate(truth.dataset['annotations']):
        entry['category_id'] = 10 + i % 70
    truth.createIndex()
    evaluation = BoxEvaluation(truth, names, detections)
    for figure in (precision_figure(evaluation), classes_figure(evaluation)):
        assert_legible(figure)

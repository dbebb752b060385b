"""Panoptic quality: hand-made cases with their official numbers, random ones by the rules."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmengine.structures import InstanceData

from mmdetr_plugin.datasets import LoadPanopticSegments, read_segment_ids
from mmdetr_plugin.evaluation import PanopticMetric, ThingMetric

NAMES = ('cat', 'dog', 'sky', 'road')  # two things, two kinds of stuff
VOID = 99  # in predictions: any label that is no class


@dataclass
class Truth:
    """A map of segment ids, and the label and crowd flag of each id; 0 is void."""

    ids: np.ndarray
    labels: dict[int, int]
    crowds: set[int] = field(default_factory=set)


def rows(*lengths_and_ids: tuple[int, int], width: int = 10) -> np.ndarray:
    """A map of horizontal bands: so many rows of an id each."""
    return np.concatenate([np.full((n, width), i) for n, i in lengths_and_ids]).astype(np.int64)


def write(folder: Path, truths: list[Truth]) -> dict:
    """The annotation file and PNGs; the arguments of the metric."""
    categories = [{'id': 10 + i, 'name': n, 'isthing': int(i < 2)} for i, n in enumerate(NAMES)]
    annotations = []
    for number, truth in enumerate(truths):
        rgb = np.stack([truth.ids % 256, truth.ids // 256 % 256, truth.ids // 65536], -1)
        cv2.imwrite(str(folder / f'{number}.png'), rgb[..., ::-1].astype(np.uint8))
        infos = [
            {'id': i, 'category_id': 10 + label, 'iscrowd': int(i in truth.crowds)}
            for i, label in truth.labels.items()
        ]
        annotations.append(
            {'image_id': number, 'file_name': f'{number}.png', 'segments_info': infos}
        )
    content = {'categories': categories, 'annotations': annotations}
    (folder / 'panoptic.json').write_text(json.dumps(content))
    return {'ann_file': str(folder / 'panoptic.json'), 'seg_prefix': str(folder)}


def evaluate(folder: Path, truths: list[Truth], predictions: list[np.ndarray]) -> dict[str, float]:
    metric = PanopticMetric(**write(folder, truths), classwise=True)
    metric.dataset_meta = {'classes': NAMES}
    for i, predicted in enumerate(predictions):
        sample = {'img_id': i, 'pred_panoptic_seg': {'sem_seg': torch.from_numpy(predicted)[None]}}
        metric.process({}, [sample])
    return metric.evaluate(len(predictions))


def official(truths: list[Truth], predictions: list[np.ndarray]) -> np.ndarray:
    """(C, 4) IoU sums, matches, false positives and misses, written down from the paper's rules."""
    counts = np.zeros((len(NAMES), 4))
    for truth, predicted in zip(truths, predictions):
        void = truth.ids == 0
        segments = {int(i): predicted == i for i in np.unique(predicted)}
        segments = {i: m for i, m in segments.items() if i % INSTANCE_OFFSET < len(NAMES)}
        objects = {i: truth.ids == i for i in truth.labels if (truth.ids == i).any()}
        found, right = set(), set()
        for i, mask in segments.items():
            for j, target in objects.items():
                if j in truth.crowds or truth.labels[j] != i % INSTANCE_OFFSET:
                    continue
                iou = (mask & target).sum() / ((mask | target) & ~(mask & void)).sum()
                if iou > 0.5:
                    counts[truth.labels[j]] += (iou, 1, 0, 0)
                    found.add(j)
                    right.add(i)
        for i, mask in segments.items():
            label = i % INSTANCE_OFFSET
            crowd = [objects[j] for j in objects if j in truth.crowds and truth.labels[j] == label]
            ignored = np.any([void, *crowd], axis=0)
            if i not in right and (mask & ignored).sum() <= 0.5 * mask.sum():
                counts[label] += (0, 0, 1, 0)
        for j in set(objects) - found - truth.crowds:
            counts[truth.labels[j]] += (0, 0, 0, 1)
    return counts


def qualities(counts: np.ndarray) -> np.ndarray:
    """(C, 3) PQ, SQ, RQ in percent; NaN for a class that does not occur."""
    iou, tp, fp, fn = counts.T
    with np.errstate(invalid='ignore'):
        rq = tp / (tp + fp / 2 + fn / 2)
        sq = iou / np.maximum(tp, 1)
    return 100 * np.stack((sq * rq, np.where(np.isnan(rq), np.nan, sq), rq), 1)


CAT, DOG, SKY, ROAD = 0, 1, 2, 3
SECOND = INSTANCE_OFFSET  # added to a label: its second instance
HAND_MADE = {
    # A perfect prediction.
    'perfect': (
        Truth(rows((5, 1), (5, 2)), {1: CAT, 2: SKY}),
        rows((5, CAT), (5, SKY)),
        {'PQ': 100, 'SQ': 100, 'RQ': 100, 'PQ_th': 100, 'PQ_st': 100, 'PQ/cat': 100},
    ),
    # cat: 4 of 5 rows, IoU 0.8. sky: 5 rows of 6 predicted, IoU 5/6.
    'inexact': (
        Truth(rows((5, 1), (5, 2)), {1: CAT, 2: SKY}),
        rows((4, CAT), (6, SKY)),
        {'PQ_th': 80, 'PQ_st': 100 * 5 / 6, 'SQ': 50 * (0.8 + 5 / 6), 'RQ': 100},
    ),
    # IoU of exactly a half is no match.
    'half': (
        Truth(rows((5, 1), (5, 2)), {1: CAT, 2: SKY}),
        rows((10, CAT)),
        {'PQ': 0, 'SQ': 0, 'RQ': 0},
    ),
    # The second cat lies in void and does not count.
    'void excuses': (
        Truth(rows((5, 1), (5, 0)), {1: CAT}),
        rows((5, CAT), (5, CAT + SECOND)),
        {'PQ': 100, 'RQ': 100},
    ),
    'missed and invented': (
        Truth(rows((4, 1), (6, 2)), {1: CAT, 2: SKY}),
        rows((4, DOG), (6, SKY)),
        {'PQ': 100 / 3, 'PQ/cat': 0, 'PQ/dog': 0, 'PQ/sky': 100, 'PQ_th': 0, 'RQ_st': 100},
    ),
    # The cat's 5 rows lie under 2 more of void, which leave its union: IoU 5 / 5.
    'void leaves the union': (
        Truth(rows((5, 1), (2, 0), (3, 2)), {1: CAT, 2: SKY}),
        rows((7, CAT), (3, SKY)),
        {'PQ': 100},
    ),
    # A crowd stays in it: IoU 5 / 7. An unmatched dog (2 of 3 rows on void) does not count; the
    # crowd is not missed.
    'crowd stays in the union': (
        Truth(rows((5, 1), (2, 2), (2, 0), (1, 3)), {1: CAT, 2: DOG, 3: SKY}, {2}),
        rows((7, CAT), (3, DOG)),
        {'PQ/cat': 100 * 5 / 7, 'PQ_th': 100 * 5 / 7, 'PQ_st': 0, 'SQ': 50 * 5 / 7, 'RQ': 50},
    ),
    # Two cats on a crowd of cats are no mistakes, two dogs are.
    'crowd excuses its own class': (
        Truth(rows((4, 1), (6, 2)), {1: SKY, 2: CAT}, {2}),
        rows((4, SKY), (2, CAT), (2, CAT + SECOND), (1, DOG), (1, DOG + SECOND)),
        {'PQ': 50, 'PQ/sky': 100, 'PQ/dog': 0, 'PQ_th': 0, 'PQ_st': 100},
    ),
    # Void and crowd together excuse: 1 row of each in a cat of 3.
    'void and crowd add up': (
        Truth(rows((4, 1), (1, 2), (1, 0), (4, 3)), {1: SKY, 2: CAT, 3: ROAD}, {2}),
        rows((4, SKY), (3, CAT), (3, ROAD)),
        {'PQ': 50 * (1 + 3 / 4), 'SQ': 50 * (1 + 3 / 4)},
    ),
    # A match is a match though more than half of it is void and crowd.
    'matched in void': (
        Truth(rows((4, 0), (1, 2), (5, 1)), {1: CAT, 2: CAT}, {2}),
        rows((4 + 1 + 4, CAT), (1, VOID)),
        {'PQ': 100 * 4 / 6, 'RQ': 100},
    ),
    # Where nothing is predicted an object is still missed, and still in the union: IoU 3 / 5.
    'nothing predicted': (
        Truth(rows((5, 1), (5, 2)), {1: CAT, 2: SKY}),
        rows((3, CAT), (7, VOID)),
        {'PQ/cat': 60, 'PQ/sky': 0, 'PQ': 30, 'RQ': 50},
    ),
    # Stuff in two segments: one matches, the other is a false positive.
    'stuff twice': (
        Truth(rows((10, 1)), {1: SKY}),
        rows((6, SKY), (4, SKY + SECOND)),
        {'PQ': 100 * 0.6 / 1.5, 'SQ': 60, 'RQ': 100 / 1.5},
    ),
    # An id that the file does not describe is neither void nor a segment.
    'unknown id': (
        Truth(rows((6, 1), (4, 7)), {1: CAT}),
        rows((6 + 2, CAT), (2, DOG)),
        {'PQ/cat': 75, 'PQ/dog': 0, 'PQ': 37.5},
    ),
}


@pytest.mark.parametrize('case', HAND_MADE)
def test_hand_made_numbers(tmp_path: Path, case: str) -> None:
    truth, predicted, expected = HAND_MADE[case]
    got = evaluate(tmp_path, [truth], [predicted])
    for key, value in expected.items():
        assert got[f'coco_panoptic/{key}'] == pytest.approx(value, abs=1e-4), key


def test_random_maps_by_the_rules(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    truths, predictions = [], []
    for _ in range(30):
        ids = np.repeat(np.repeat(rng.randint(0, 8, (4, 4)), 6, 0), 6, 1)
        labels = {i: int(rng.randint(0, 4)) for i in range(1, 8)}
        crowds = {i for i in labels if labels[i] < 2 and rng.rand() < 0.4}
        codes = np.array([VOID, *(labels[i] + INSTANCE_OFFSET * i for i in range(1, 8))])
        predicted = np.roll(codes[ids], rng.randint(0, 2, 2), (0, 1))
        wrong = rng.rand(4, 4) < 0.2  # some blocks go to another segment
        other = codes[rng.randint(0, 8, (4, 4))]
        block = np.ones((6, 6), np.int64)
        predicted = np.where(np.kron(wrong, block), np.kron(other, block), predicted)
        truths.append(Truth(ids, labels, crowds))
        predictions.append(predicted)
    got = evaluate(tmp_path, truths, predictions)
    counts = official(truths, predictions)
    assert (counts[:, 1:] > 5).all()  # matches, false positives and misses of every class
    expected = qualities(counts)
    for suffix, chosen in (('', slice(0, 4)), ('_th', slice(0, 2)), ('_st', slice(2, 4))):
        for name, column in zip(('PQ', 'SQ', 'RQ'), expected[chosen].T):
            assert got[f'coco_panoptic/{name}{suffix}'] == pytest.approx(column.mean(), abs=1e-4)
    for name, row in zip(NAMES, expected):
        values = [got[f'coco_panoptic/{q}/{name}'] for q in ('PQ', 'SQ', 'RQ')]
        assert values == pytest.approx(row, abs=1e-4)


def test_classes_that_do_not_occur_do_not_count(tmp_path: Path) -> None:
    truth = Truth(rows((10, 1)), {1: CAT})
    got = evaluate(tmp_path, [truth], [rows((10, CAT))])
    assert got['coco_panoptic/PQ'] == 100 and got['coco_panoptic/PQ_th'] == 100
    assert np.isnan(got['coco_panoptic/PQ_st'])


def test_classes_outside_the_data_set_are_not_scored(tmp_path: Path) -> None:
    truth = Truth(rows((5, 1), (5, 2)), {1: CAT, 2: DOG})
    metric = PanopticMetric(**write(tmp_path, [truth]))
    metric.dataset_meta = {'classes': ('dog', 'sky', 'road')}  # labels 0, 1, 2
    sample = {'sem_seg': torch.from_numpy(rows((5, 9), (5, 0)))[None]}
    metric.process({}, [{'img_id': 0, 'pred_panoptic_seg': sample}])
    assert metric.evaluate(1)['coco_panoptic/PQ'] == 100


# ---- what cannot be scored ----------------------------------------------------------------------


def test_predictions_of_another_size(tmp_path: Path) -> None:
    truth = Truth(rows((10, 1)), {1: CAT})
    with pytest.raises(ValueError, match=r'size of 0.png, \(10, 10\), got \(9, 10\); predict with'):
        evaluate(tmp_path, [truth], [rows((9, CAT))])


def test_predictions_without_segments(tmp_path: Path) -> None:
    metric = PanopticMetric(**write(tmp_path, [Truth(rows((10, 1)), {1: CAT})]))
    metric.dataset_meta = {'classes': NAMES}
    with pytest.raises(ValueError, match='needs pred_panoptic_seg, got a prediction without'):
        metric.process({}, [{'img_id': 0}])


def test_torchmetrics_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = write(tmp_path, [Truth(rows((10, 1)), {1: CAT})])
    monkeypatch.setitem(sys.modules, 'torchmetrics.detection', None)
    with pytest.raises(ImportError, match=r'needs torchmetrics.*pip install "\.\[demo\]"'):
        PanopticMetric(**arguments)


# ---- instances of a model that finds stuff too --------------------------------------------------


def instances_file(folder: Path) -> str:
    box = {'bbox': [2, 2, 6, 6], 'area': 36, 'iscrowd': 0, 'image_id': 0}
    mask = {'segmentation': [[2, 2, 8, 2, 8, 8, 2, 8]]}
    content = {
        'images': [{'id': 0, 'height': 10, 'width': 10, 'file_name': '0.jpg'}],
        'annotations': [{'id': 1, 'category_id': 11, **box, **mask}],
        'categories': [{'id': 10, 'name': 'cat'}, {'id': 11, 'name': 'dog'}],
    }
    (folder / 'instances.json').write_text(json.dumps(content))
    return str(folder / 'instances.json')


def test_stuff_is_left_out_of_instances(tmp_path: Path) -> None:
    metric = ThingMetric(ann_file=instances_file(tmp_path), metric=['bbox', 'segm'])
    metric.dataset_meta = {'classes': ('sky', 'cat', 'dog', 'road')}
    mask = torch.zeros(3, 10, 10, dtype=torch.bool)
    mask[:, 2:8, 2:8] = True
    found = InstanceData(
        bboxes=torch.tensor([[2.0, 2, 8, 8]] * 3),
        labels=torch.tensor([0, 2, 3]),  # sky, dog, road
        scores=torch.tensor([0.9, 0.8, 0.7]),
        masks=mask,
    )
    sample = {'img_id': 0, 'ori_shape': (10, 10), 'pred_instances': dict(found.items())}
    metric.process({}, [sample])
    got = metric.evaluate(1)
    assert got['coco/bbox_mAP'] == 1.0 and got['coco/segm_mAP'] == 1.0
    assert sample['pred_instances']['labels'].tolist() == [0, 2, 3]


def test_instances_need_a_file() -> None:
    with pytest.raises(ValueError, match='ThingMetric needs ann_file'):
        ThingMetric().process({}, [])


# ---- loading ------------------------------------------------------------------------------------


def loaded(folder: Path, **settings: object) -> dict:
    write(folder, [Truth(rows((4, 1), (3, 70000), (3, 0)), {1: CAT, 70000: SKY})])
    segments = [
        {'id': 1, 'category': CAT, 'is_thing': 1},
        {'id': 70000, 'category': SKY, 'is_thing': 0},
        {'id': 5, 'category': ROAD, 'is_thing': 0},  # without a pixel
    ]
    results = {'seg_map_path': str(folder / '0.png'), 'segments_info': segments}
    return LoadPanopticSegments(num_things=2, **settings).transform(results)


def test_segments_become_objects(tmp_path: Path) -> None:
    results = loaded(tmp_path)
    assert results['gt_bboxes'].tensor.tolist() == [[0, 0, 10, 4], [0, 4, 10, 7]]
    assert results['gt_bboxes_labels'].tolist() == [CAT, SKY]
    assert results['gt_ignore_flags'].tolist() == [False, False]
    assert results['gt_masks'].masks.sum((1, 2)).tolist() == [40, 30]
    assert read_segment_ids(str(tmp_path / '0.png')).max() == 70000


def test_boxes_without_masks(tmp_path: Path) -> None:
    results = loaded(tmp_path, with_mask=False)
    assert 'gt_masks' not in results and len(results['gt_bboxes']) == 2
    text = repr(LoadPanopticSegments(num_things=2, with_mask=False))
    assert 'num_things=2' in text and 'with_mask=False' in text


def test_crowds_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, [Truth(rows((4, 1), (6, 2)), {1: CAT, 2: SKY})])
    segments = [
        {'id': 1, 'category': CAT, 'is_thing': False},  # as mmdet's data set gives a crowd
        {'id': 2, 'category': SKY, 'is_thing': 0},
    ]
    results = {'seg_map_path': str(tmp_path / '0.png'), 'segments_info': segments}
    results = LoadPanopticSegments(num_things=2).transform(results)
    assert results['gt_ignore_flags'].tolist() == [True, False]


def test_images_without_segments(tmp_path: Path) -> None:
    write(tmp_path, [Truth(rows((10, 0)), {})])
    results = {'seg_map_path': str(tmp_path / '0.png'), 'segments_info': []}
    results = LoadPanopticSegments(num_things=2).transform(results)
    assert results['gt_bboxes'].tensor.shape == (0, 4)
    assert results['gt_masks'].masks.shape == (0, 10, 10)


def test_the_folder_of_the_segments_is_needed() -> None:
    with pytest.raises(ValueError, match=r'needs data_prefix=dict\(seg=...\)'):
        LoadPanopticSegments(num_things=2).transform({'seg_map_path': None})

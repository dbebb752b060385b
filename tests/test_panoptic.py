"""Panoptic segments; checkpoints, frozen parts and training of models with a mask head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mask_cases import BOXES, JOINT, MASKS, NUM_THINGS, gradients
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from torch import Tensor, nn

from mmdetr_plugin.checkpoints import from_official, official_names, to_official
from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.heads import PanopticArgmax, PanopticTopK
from mmdetr_plugin.heads.panoptic import nearest_places
from mmdetr_plugin.registry import DATASETS
from mmdetr_plugin.visualization import PanopticVisualizer


@pytest.fixture(scope='module')
def model() -> nn.Module:
    return tiny.build(JOINT)


# ---- panoptic segments --------------------------------------------------------------------------


def logits_of(labels: list[int], scores: list[float], num_classes: int = 4) -> Tensor:
    """(N, K + 1) with these classes and their probabilities; the rest goes to no-object."""
    prob = torch.full((len(labels), num_classes + 1), 1e-6)
    for row, label, score in zip(prob, labels, scores):
        row[label] = score
        row[-1] += 1 - score
    return prob.log()


def bands(*heights: tuple[int, int], size: int = 20) -> Tensor:
    """Masks that are high on rows from, to."""
    masks = torch.full((len(heights), size, size), -5.0)
    for mask, (top, bottom) in zip(masks, heights):
        mask[top:bottom] = 5
    return masks


def segment(
    labels: list[int], masks: Tensor, scores: list[float] | None = None, **settings
) -> tuple:
    post = PanopticArgmax(num_things=NUM_THINGS, **settings)
    logits = logits_of(labels, scores or [0.95] * len(labels))
    size = tuple(masks.shape[-2:])
    result = post.panoptic(logits, masks, size, size)
    assert result.sem_seg.shape == (1, *size)
    return result.sem_seg[0], result.segments_info


def test_every_pixel_goes_to_one_segment() -> None:
    codes, infos = segment([0, 0, 3], bands((0, 6), (6, 10), (10, 20)))
    first, second = INSTANCE_OFFSET, 2 * INSTANCE_OFFSET  # things of one class are told apart
    assert [info['id'] for info in infos] == [first, second, 3]
    assert [(i['category_id'], i['isthing'], i['area']) for i in infos] == [
        (0, True, 120),
        (0, True, 80),
        (3, False, 200),
    ]
    assert codes[:, 0].tolist() == [first] * 6 + [second] * 4 + [3] * 10


def test_scores_decide_which_queries_take_part() -> None:
    masks = bands((0, 10), (10, 20), (0, 20))
    codes, _ = segment([0, 2, 1], masks, [0.9, 0.86, 0.84])
    assert set(codes.unique().tolist()) == {INSTANCE_OFFSET, 2}
    codes, _ = segment(
        [0, 2, 1],
        masks - torch.tensor([0, 0, 9.0]).view(3, 1, 1),
        [0.9, 0.86, 0.84],
        score_thr=0.87,
    )
    assert codes.unique().tolist() == [INSTANCE_OFFSET]


def test_no_object_makes_no_segment() -> None:
    """A class above a low threshold is not enough: no-object must not be above it."""
    codes, infos = segment([0, 1], bands((0, 10), (10, 20)), [0.6, 0.4], score_thr=0.2)
    assert [info['category_id'] for info in infos] == [0]
    assert codes.unique().tolist() == [INSTANCE_OFFSET]


def test_without_segments_all_is_void() -> None:
    codes, infos = segment([0, 1], bands((0, 10), (10, 20)), [0.5, 0.5])
    assert infos == [] and codes.unique().tolist() == [4]  # the number of classes: no class


def test_stuff_of_a_class_is_joined_in_the_first_pass_only() -> None:
    masks = bands((0, 6), (6, 12), (12, 20))
    _, infos = segment([2, 2, 3], masks, min_area=-1)  # nothing is small: one pass
    assert [(i['id'], i['area']) for i in infos] == [(2, 240), (2 + INSTANCE_OFFSET, 0), (3, 160)]
    # A segment that was joined to another is small; without its mask the next best takes its place.
    masks[2, 6:12] = -4
    codes, infos = segment([2, 2, 3], masks)
    assert [(i['id'], i['area']) for i in infos] == [(2, 120), (3, 280)]
    assert codes[:, 0].tolist() == [2] * 6 + [3] * 14


def test_small_segments_go_to_the_others() -> None:
    masks = bands((0, 10), (10, 20), (20, 20))
    masks[2, 10, :4] = 9  # 4 pixels: too few
    _, infos = segment([0, 3, 1], masks)
    assert [info['category_id'] for info in infos] == [0, 3]
    masks[2, 10, 4] = 9
    _, infos = segment([0, 3, 1], masks)
    assert [(i['category_id'], i['area']) for i in infos] == [(0, 200), (3, 195), (1, 5)]
    _, infos = segment([0, 3, 1], masks, min_area=5)
    assert [info['category_id'] for info in infos] == [0, 3]


def test_original_size() -> None:
    post = PanopticArgmax(num_things=NUM_THINGS)
    masks = bands((0, 10), (10, 20))
    result = post.panoptic(logits_of([0, 3], [0.95, 0.95]), masks, (40, 30), (10, 12))
    assert result.sem_seg.shape == (1, 10, 12)
    assert sum(info['area'] for info in result.segments_info) == 120


@pytest.mark.parametrize(('length', 'new'), [(144, 180), (128, 192), (161, 241), (7, 3), (5, 5)])
def test_resizing_rounds_as_pillow(length: int, new: int) -> None:
    image = pytest.importorskip('PIL.Image')
    line = image.fromarray(np.arange(length, dtype=np.int32)[None])
    expected = np.asarray(line.resize((new, 1), image.NEAREST))[0]
    assert nearest_places(length, new).tolist() == expected.tolist()


def test_sigmoids_make_the_same_segments() -> None:
    """Of the same scores; without a column for no-object, a low score alone says that there is none."""
    labels, scores, masks = [0, 3, 1], [0.9, 0.6, 0.3], bands((0, 6), (6, 14), (14, 20))
    probabilities = torch.full((3, 4), 1e-6)
    probabilities[range(3), labels] = torch.tensor(scores)
    post = PanopticTopK(num_things=NUM_THINGS, score_thr=0.5)
    found = post.panoptic(probabilities.logit(), masks, (20, 20), (20, 20))
    codes, infos = segment(labels, masks, scores, score_thr=0.5)
    assert torch.equal(found.sem_seg[0], codes)
    assert found.segments_info == infos and len(infos) == 2
    detections = post(probabilities.logit()[None], torch.zeros(1, 3, 4))
    assert detections.labels[0, :3].tolist() == labels
    nothing = post.panoptic(torch.full((3, 4), -9.0), masks, (20, 20), (10, 10))
    assert nothing.sem_seg.unique().tolist() == [4] and nothing.segments_info == []


def test_predictions_carry_panoptic_segments() -> None:
    model = tiny.build(JOINT, test_cfg={'score_thr': 0.0, 'min_area': 0})
    with torch.no_grad():
        samples = model.predict(*tiny.batch())
    for sample in samples:
        codes = sample.pred_panoptic_seg.sem_seg
        assert codes.shape == (1, *sample.ori_shape)
        infos = sample.pred_panoptic_seg.segments_info
        assert sum(info['area'] for info in infos) == codes.numel()


@pytest.mark.parametrize('scores', [[0.95, 0.95], [0.1, 0.1]])
def test_segments_can_be_drawn(scores: list[float]) -> None:
    post = PanopticArgmax(num_things=NUM_THINGS)
    sample = DetDataSample()
    size = (20, 20)
    sample.pred_panoptic_seg = post.panoptic(
        logits_of([0, 3], scores), bands((0, 10), (10, 20)), size, size
    )
    visualizer = PanopticVisualizer()
    visualizer.dataset_meta = {'classes': ('a', 'b', 'c', 'd'), 'palette': [(255, 0, 0)] * 4}
    visualizer.add_datasample('', np.zeros((*size, 3), np.uint8), sample, draw_gt=False)
    assert visualizer.get_image().any() == bool(sample.pred_panoptic_seg.segments_info)


# ---- checkpoints --------------------------------------------------------------------------------


def test_official_names_wrap_the_detector(model: nn.Module) -> None:
    names = {n for each in official_names(model, 'detr').values() for n in each}
    others = {n for n in names if not n.startswith('detr.')}
    assert {n.split('.')[0] for n in others} == {'bbox_attention', 'mask_head'}
    assert {
        'mask_head.lay1.weight',
        'mask_head.adapter3.bias',
        'bbox_attention.k_linear.bias',
    } < others
    assert 'detr.transformer.decoder.norm.weight' in names


def test_a_detectors_file_serves_the_mask_model(model: nn.Module) -> None:
    detector = tiny.build(BOXES, seed=5)
    official = to_official(detector.state_dict(), detector)
    assert not any(name.startswith('detr.') for name in official)
    fresh = tiny.build(JOINT)
    fresh.load_state_dict(official, strict=False)
    for name, value in detector.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)
    with pytest.raises(ValueError, match='missing: bbox_attention'):
        from_official({f'detr.{n}': v for n, v in official.items()}, fresh)


def test_a_mask_models_file_serves_the_detector(model: nn.Module) -> None:
    detector = tiny.build(BOXES, seed=5)
    detector.load_state_dict(to_official(model.state_dict(), model))
    for name, value in detector.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


# ---- frozen parts -------------------------------------------------------------------------------


def test_frozen_parts_neither_train_nor_drop() -> None:
    model = tiny.build(MASKS, dropout=0.5).train()
    assert model.training and model.mask_head.training
    trained = {name.split('.')[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {'mask_head'}
    for part in ('backbone', 'neck', 'encoder', 'queries', 'decoder', 'head'):
        assert not any(m.training for m in getattr(model, part).modules())
    losses = gradients(model, model.loss(*tiny.batch()))
    assert {name.split('.')[0] for name in losses} == {'mask_head'}


def test_a_layer_can_be_frozen() -> None:
    model = tiny.build(BOXES, frozen_parts=['decoder.layers.0']).train()
    assert not model.decoder.layers[0].training and model.decoder.layers[1].training
    frozen = {n for n, p in model.decoder.named_parameters() if not p.requires_grad}
    assert frozen and all(name.startswith('layers.0.') for name in frozen)


def test_unknown_parts_are_told() -> None:
    with pytest.raises(ValueError, match=r"got 'backbon'; did you mean one of \['backbone'"):
        tiny.build(BOXES, frozen_parts=['backbon'])


# ---- training and evaluation --------------------------------------------------------------------


@pytest.fixture(scope='module')
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('panoptic') / 'digits'
    make_digits(root, num_train=4, num_val=4, size=64)
    return root


def on_digits(name: str, digits: Path, **changes: object) -> Config:
    """A config's shrunk model on the panoptic digits: two steps of training, then evaluation."""
    cfg = tiny.load(name)
    data = Config.fromfile(tiny.ROOT / 'configs/_base_/datasets/digits_panoptic.py')
    for loader in ('train_dataloader', 'val_dataloader'):
        settings = data[loader]
        settings.dataset.data_root = str(digits)
        settings.update(batch_size=2, num_workers=0, persistent_workers=False)
        cfg[loader] = settings
    metrics = [ConfigDict(metric) for metric in data.val_evaluator]
    for metric in metrics:
        for key in ('ann_file', 'seg_prefix'):
            if key in metric:
                metric[key] = metric[key].replace('data/digits', str(digits))
    if name == BOXES:
        metrics = [{**metrics[0], 'metric': 'bbox'}]
    cfg.val_evaluator = metrics
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        cfg.pop(key, None)
    cfg.model = tiny.shrink(cfg.model, num_classes=16)
    if name != BOXES:
        cfg.model.test_cfg = {'num_things': 10, 'score_thr': 0.0}
    cfg.train_cfg.max_epochs = 1
    cfg.work_dir = str(digits.parent / name)
    cfg.log_level = 'WARNING'
    cfg.merge_from_dict(changes)
    return cfg


@pytest.mark.parametrize('name', [JOINT, BOXES])
def test_augmentation_moves_boxes_and_masks_together(digits: Path, name: str) -> None:
    data = on_digits(name, digits).train_dataloader.dataset
    data.pipeline = tiny.load(name).train_dataloader.dataset.pipeline
    data.pipeline[1].num_things = 10
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        dataset = DATASETS.build(data)
    for seed in range(4):
        np.random.seed(seed)
        sample = dataset[0]
        truth, shape = sample['data_samples'].gt_instances, sample['inputs'].shape[1:]
        assert len(truth) > 1 and truth.labels.max() >= 10
        if name == BOXES:
            assert 'masks' not in truth
            continue
        assert truth.masks.masks.shape == (len(truth), *shape)
        boxes, tight = truth.bboxes.tensor, truth.masks.get_bboxes('hbox').tensor
        whole = truth.masks.areas > 0
        assert (tight[whole] - boxes[whole]).abs().max() < shape[0] / 20


def test_two_steps_of_training_on_digits(digits: Path) -> None:
    Runner.from_cfg(on_digits(BOXES, digits)).train()
    file = digits.parent / BOXES / 'epoch_1.pth'
    boxes = torch.load(file)['state_dict']

    runner = Runner.from_cfg(on_digits(MASKS, digits, load_from=str(file)))
    runner.train()
    for key in EXPECTED:
        assert 0 <= runner.message_hub.get_scalar(f'val/{key}').current() <= 100
    after = runner.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in boxes.items())
    trained = len(list(runner.model.mask_head.parameters()))
    assert len(runner.optim_wrapper.optimizer.state) == trained
    fresh = tiny.build(MASKS, num_classes=16)
    load_checkpoint(fresh, str(digits.parent / MASKS / 'epoch_1.pth'), strict=True)


EXPECTED = [
    'coco/bbox_mAP',
    'coco/segm_mAP',
    *(
        f'coco_panoptic/{name}{group}'
        for name in ('PQ', 'SQ', 'RQ')
        for group in ('', '_th', '_st')
    ),
]

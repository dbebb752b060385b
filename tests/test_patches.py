"""UP-DETR: random patches of unlabelled images, queries that look for them, and fine-tuning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mmengine.registry import DefaultScope
from PIL import Image

from mmdetr_plugin.checkpoints import to_official
from mmdetr_plugin.checkpoints.loading import weights_for
from mmdetr_plugin.checkpoints.plan import INITIAL, SKIPPED
from mmdetr_plugin.datasets.unlabelled import PATCH, random_box
from mmdetr_plugin.registry import DATASETS
from mmdetr_plugin.structures import Targets

GOLDEN = Path(__file__).parent / 'parity/ops/up_detr_patches.npz'
PRETRAIN = 'up_detr_pretrain_r50'


def with_patches(number: int = 3) -> tuple:
    images, samples = tiny.batch((number, number))
    for sample in samples:
        sample.gt_instances.labels = torch.full((number,), PATCH)
        sample.query_patches = torch.randn(number, 3, 32, 32)
    return images, samples


def build(**queries: object) -> torch.nn.Module:
    torch.manual_seed(0)
    cfg = tiny.load(PRETRAIN)
    cfg.model.queries.update(queries)
    model = tiny.MODELS.build(tiny.shrink(cfg.model, num_classes=2)).eval()
    model.queries.projection.weight.data *= 1000  # features of random backbones hardly differ
    return tiny.randomise_(model)


def test_boxes_of_patches_are_the_official_ones() -> None:
    golden = np.load(GOLDEN)
    state = np.random.get_state()
    for i, (width, height) in enumerate(golden['sizes_wh'].tolist()):
        np.random.seed(100 + i)
        boxes = np.array([random_box(width, height, 8) for _ in range(10)])
        expected = golden[f'boxes_xywh_{i}']
        assert (boxes[:, :2] == expected[:, :2]).all()
        assert (boxes[:, 2:] - boxes[:, :2] == expected[:, 2:]).all()
    np.random.set_state(state)


def test_a_folder_of_images(tmp_path: Path) -> None:
    """Too small an image is replaced by the next one; patches follow the boxes of its objects."""
    for name, size in (('a/small.png', (16, 90)), ('b/large.jpg', (90, 70))):
        file = tmp_path / name
        file.parent.mkdir()
        Image.fromarray(np.random.randint(0, 255, (*size[::-1], 3), np.uint8)).save(file)
    cfg = tiny.load(PRETRAIN).train_dataloader.dataset
    cfg.data_root = str(tmp_path)
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        dataset = DATASETS.build(cfg)
    assert len(dataset) == 2
    for data in (dataset[0], dataset[1]):
        sample = data['data_samples']
        assert sample.img_path.endswith('large.jpg')
        assert sample.query_patches.shape == (10, 3, 128, 128)
        assert sample.query_patches.abs().max() < 5
        assert (sample.gt_instances.labels == PATCH).all()
        boxes, (height, width) = sample.gt_instances.bboxes, sample.img_shape
        assert (boxes[:, 2:] - boxes[:, :2] > 0).all()
        assert (boxes >= 0).all() and (boxes <= torch.tensor([width, height] * 2)).all()
        assert min(height, width) >= 320


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    cfg = tiny.load(PRETRAIN).train_dataloader.dataset
    cfg.data_root = str(tmp_path)
    with (
        DefaultScope.overwrite_default_scope('mmdetr_plugin'),
        pytest.raises(FileNotFoundError, match='a folder with images'),
    ):
        DATASETS.build(cfg)


def test_groups_of_queries_see_their_own_patch_alone() -> None:
    model = build()
    images, samples = with_patches()
    size = model.queries.group
    with torch.no_grad():
        before = model(images, samples, mode='tensor')['pred_boxes']
        for sample in samples:
            sample.query_patches[1] += 1
        after = model(images, samples, mode='tensor')['pred_boxes']
        changed = (after - before).abs().amax((0, 1, 3)).unflatten(0, (-1, size))
        assert (changed[1] > 1e-6).all() and (changed[[0, 2]] < 1e-6).all()
        fewer = [s.clone() for s in samples]
        for sample in fewer:
            sample.query_patches = sample.query_patches[:2]
        part = model(images, fewer, mode='tensor')['pred_boxes']
    torch.testing.assert_close(part, after[:, :, : 2 * size], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('shuffle', [False, True])
def test_shuffling_moves_embeddings_and_no_patches(shuffle: bool) -> None:
    model = build(shuffle=shuffle, drop=0.0)
    images, samples = with_patches()
    targets = Targets.from_samples(samples, 2)
    memory = model.embed(model.extract_feat(images), samples, images.shape[-2:])
    with torch.no_grad():
        plain, _ = model.queries(memory, model.head)
        drawn, _ = model.queries(memory, model.head, targets)
        shown = model.queries.projection(model.queries.features(memory.patches))
    difference = drawn.pos - shown.repeat_interleave(model.queries.group, 1)
    rows = torch.cdist(difference[0], model.queries.embedding.weight).argmin(1)
    assert sorted(rows.tolist()) == list(range(tiny.NUM_QUERIES))
    assert (rows.tolist() != sorted(rows.tolist())) == shuffle
    assert torch.equal(drawn.pos, plain.pos) != shuffle


def test_the_backbone_is_frozen_and_all_else_learns() -> None:
    model = build()
    with tiny.training(model):
        losses = model.loss(*with_patches())
    assert losses['loss_feature'] > 0
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith('backbone.'), name


def test_wrong_numbers_of_patches_are_errors() -> None:
    model = build()
    images, samples = with_patches(2)
    with pytest.raises(ValueError, match=r'need 3 patches for each image.*got 2'):
        model.loss(images, samples)
    images, samples = with_patches()
    samples[0].gt_instances = samples[0].gt_instances[:2]
    with pytest.raises(ValueError, match=r'an object for each patch_feature, got \[2, 3\]'):
        model.loss(images, samples)
    samples[1].query_patches = samples[1].query_patches[:1]
    with pytest.raises(ValueError, match=r'equally many query_patches, got \[3, 1\]'):
        model.loss(images, samples)


@pytest.mark.parametrize('official', [True, False])
def test_fine_tuning_takes_all_but_the_class_head(official: bool) -> None:
    file, model = build(), tiny.build('up_detr_r50')
    state = to_official(file.state_dict(), file) if official else file.state_dict()
    weights, plan = weights_for(model, {'model': state})
    initial = {step.name for step in plan.steps if INITIAL in step.numbers}
    skipped = {step.name for step in plan.steps if SKIPPED in step.numbers}
    assert initial == {f'head.class_branches.0.{kind}' for kind in ('weight', 'bias')}
    assert len(skipped) == 8  # the class head, the projection, two layers of a perceptron
    assert set(weights) == set(model.state_dict())
    for name, value in file.state_dict().items():
        if name in weights and name not in initial:
            assert torch.equal(weights[name], value), name

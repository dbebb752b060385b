"""Weights of classes, score thresholds, suppression, and the losses of the validation set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import tiny_run
import torch
from criterion_cases import NUM_CLASSES, make_criterion, make_targets
from mmdet.datasets.utils import get_loading_pipeline
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from mmdetr_plugin.criterion import FocalClassLoss, SoftmaxClassLoss
from mmdetr_plugin.datasets import LoadImage
from mmdetr_plugin.datasets.completion import complete
from mmdetr_plugin.heads.panoptic import PanopticArgmax
from mmdetr_plugin.heads.postprocess import SigmoidTopK
from mmdetr_plugin.registry import DATASETS

LOSSES = {'focal': FocalClassLoss, 'softmax': SoftmaxClassLoss}


def columns(kind: str) -> int:
    return NUM_CLASSES + (kind == 'softmax')


def loss_of(kind: str, weights: list[float] | None, logits: Tensor) -> Tensor:
    part = LOSSES[kind](class_weight=weights, num_classes=NUM_CLASSES)
    targets = make_targets((3, 1))
    boxes = torch.full((1, 2, 6, 4), 0.3)
    outputs = {'pred_logits': logits, 'pred_boxes': boxes}
    return make_criterion(kind, loss_cls=part)(outputs, targets)['loss_cls']


@pytest.mark.parametrize('kind', ['focal', 'softmax'])
def test_a_weight_of_each_class(kind: str) -> None:
    """Ones are what no weights are; a class of weight 0 has no gradient."""
    logits = torch.randn(1, 2, 6, columns(kind), generator=torch.Generator().manual_seed(0))
    ones = [1.0] * columns(kind)
    plain = None if kind == 'focal' else [*ones[:-1], 0.1]
    torch.testing.assert_close(
        loss_of(kind, ones, logits) if kind == 'focal' else loss_of(kind, plain, logits),
        loss_of(kind, None, logits),
    )
    if kind == 'focal':
        logits.requires_grad_()
        loss_of(kind, [0.0, *ones[1:]], logits).backward()
        assert not logits.grad[..., 0].any() and logits.grad[..., 1:].all()


@pytest.mark.parametrize('kind', ['focal', 'softmax'])
@pytest.mark.parametrize('weights', [[1.0], [1.0, -1.0], ['a'], 3.0, [float('nan')] * 4])
def test_the_number_of_weights_is_checked_when_the_model_is_built(
    kind: str, weights: object
) -> None:
    with pytest.raises(ValueError, match=r'class_weight must be \d+ numbers >= 0, one for each'):
        LOSSES[kind](class_weight=weights, num_classes=NUM_CLASSES)


@pytest.mark.parametrize('name', ['alpha', 'gamma', 'loss_weight'])
@pytest.mark.parametrize('value', [[0.25, 0.75], 'a', True, float('nan')])
def test_numbers_of_losses(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f'FocalClassLoss: {name} must be a finite number, got'):
        FocalClassLoss(**{name: value})


def test_weights_by_name(tmp_path: Path) -> None:
    cfg = tiny.load('finetune/detr_r50_12e')
    coco = {'images': [], 'annotations': [], 'categories': []}
    coco['categories'] = [{'id': i, 'name': name} for i, name in enumerate(('cat', 'dog'))]
    (tmp_path / 'annotations').mkdir()
    for split in ('train', 'val'):
        (tmp_path / f'annotations/{split}.json').write_text(json.dumps(coco))
    cfg.data_root = str(tmp_path)
    cfg.model.criterion.losses.loss_cls = dict(type='FocalClassLoss', class_weight={'dog': 3})
    complete(cfg)
    assert cfg.model.criterion.losses.loss_cls.class_weight == [1.0, 3.0]
    cfg.model.criterion.losses.loss_cls.class_weight = {'hen': 3}
    with pytest.raises(ValueError, match=r'must name classes .*\[cat, dog\], got .*hen'):
        complete(cfg)


def test_score_threshold_and_suppression() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 10, 10], [1.0, 0, 10, 10], [50.0, 50, 60, 60]])
    found = InstanceData(
        bboxes=boxes, scores=torch.tensor([0.9, 0.8, 0.7, 0.1]), labels=torch.tensor([0, 0, 1, 0])
    )
    assert len(SigmoidTopK().select(found)) == 4
    assert SigmoidTopK(score_thr=0.5).select(found).scores.tolist() == found.scores[:3].tolist()
    kept = SigmoidTopK(nms=dict(type='nms', iou_threshold=0.5)).select(found)
    assert kept.labels.tolist() == [0, 1, 0]
    for wrong in ({'score_thr': 2}, {'score_thr': 'a'}, {'nms': 0.5}, {'max_per_img': 0}):
        with pytest.raises(ValueError, match=rf'postprocess.{next(iter(wrong))} must be'):
            SigmoidTopK(**wrong)


def test_the_threshold_of_panoptic_segments_leaves_all_instances() -> None:
    found = InstanceData(bboxes=torch.zeros(2, 4), scores=torch.tensor([0.9, 0.1]))
    assert len(PanopticArgmax(num_things=2, score_thr=0.85).select(found)) == 2


def test_losses_of_the_validation_set(tmp_path: Path) -> None:
    """They are metrics, and computing them changes nothing of the run."""
    data = tiny_run.make_data(tmp_path / 'digits')
    weights = []
    for name in ('with', 'without'):
        cfg: Config = tiny_run.config(data, tmp_path / name, epochs=1)
        if name == 'with':
            cfg.custom_hooks.append({'type': 'mmdetr_plugin.ValidationLossHook'})
        runner = tiny_run.train(cfg, f'validation loss {name}')
        weights.append(runner.model.state_dict())
        scalars = runner.message_hub.log_scalars
        assert ('val/loss/total' in scalars) == (name == 'with')
        if name == 'with':
            terms = [k for k in scalars if k.startswith('val/loss/') and 'loss_' in k]
            total = sum(scalars[k].current() for k in terms)
            assert scalars['val/loss/total'].current() == pytest.approx(total, rel=1e-4)
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize('loading', ['LoadImageFromFile', 'mmdetr_plugin.LoadImage'])
def test_mmdets_analysis_tools_find_the_loading_of_our_pipelines(
    loading: str, tmp_path: Path
) -> None:
    """In the config of a work dir, whatever stood in that of the user; images are checked anyway."""
    cfg = tiny_run.config(tiny_run.make_data(tmp_path / 'digits'), tmp_path)
    cfg.train_dataloader.dataset.pipeline[0].type = loading
    complete(cfg)
    dataset = cfg.train_dataloader.dataset
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        steps = get_loading_pipeline(dataset.pipeline)
        assert [step.type for step in steps] == ['LoadImageFromFile', 'LoadAnnotations']
        built = DATASETS.build({**dataset, 'pipeline': steps})
    assert type(built.pipeline.transforms[0]) is LoadImage
    assert built[0]['img'].shape == (tiny_run.SIZE, tiny_run.SIZE, 3)

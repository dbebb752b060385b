"""Our assigner and losses inside mmdet's own configs: only ``type`` changes, no number does."""

import copy
from pathlib import Path

import mmdet
import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.registry import TASK_UTILS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from tiny import box_masks

CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'
DETECTORS = {
    'detr': 'detr/detr_r50_8xb2-150e_coco.py',
    'conditional': 'conditional_detr/conditional-detr_r50_8xb2-50e_coco.py',
    'dino': 'dino/dino-4scale_r50_8xb2-12e_coco.py',
}
LOSSES = {
    'CrossEntropyLoss': 'mmdetr_plugin.SoftmaxClassLoss',
    'FocalLoss': 'mmdetr_plugin.FocalClassLoss',
    'L1Loss': 'mmdetr_plugin.BoxL1Loss',
    'GIoULoss': 'mmdetr_plugin.BoxGIoULoss',
}


def small(name):
    """mmdet's config with a ResNet-18, 1 + 2 layers and random weights."""
    model = Config.fromfile(CONFIGS / DETECTORS[name]).model
    model.backbone.update(depth=18, init_cfg=None)
    model.neck.in_channels = [channels // 4 for channels in model.neck.in_channels]
    model.encoder.num_layers, model.decoder.num_layers = 1, 2
    if name == 'dino':
        model.num_queries = 30
    return model


def losses(model, masks=False):
    """Losses of a training step; every random number is the same in each call."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        detector = MMDET_MODELS.build(model)
        detector.init_weights()
    batch = []
    for boxes in ([[4, 6, 40, 50], [20, 8, 60, 30]], [[10, 10, 30, 44]], []):
        sample = DetDataSample(metainfo=dict(img_shape=(64, 64), batch_input_shape=(64, 64)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
            labels=torch.arange(len(boxes)) * 7,
        )
        if masks:
            sample.gt_instances.masks = box_masks(sample.gt_instances.bboxes, 64, 64)
        batch.append(sample)
    detector.train()
    torch.manual_seed(1)
    return detector.loss(torch.randn(3, 3, 64, 64), batch)


@pytest.fixture(scope='module', params=list(DETECTORS))
def detector(request):
    """(name, losses of mmdet's own parts)."""
    register_all_modules(init_default_scope=False)
    return request.param, losses(small(request.param))


def assert_equal(got, expected):
    assert set(got) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=1e-6)


def test_assigner(detector):
    name, expected = detector
    model = small(name)
    model.train_cfg.assigner.type = 'mmdetr_plugin.HungarianAssigner'
    assert_equal(losses(model), expected)


MASKED = {
    'mask2former': 'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    'maskformer': 'maskformer/maskformer_r50_ms-16xb1-75e_coco.py',
}


@pytest.mark.parametrize('name', MASKED)
def test_assigner_of_masks(name):
    """Mask2Former and MaskFormer match by classes and masks and have no boxes."""
    register_all_modules(init_default_scope=False)
    model = Config.fromfile(CONFIGS / MASKED[name]).model
    model.backbone.update(depth=18, init_cfg=None)
    head = model.panoptic_head
    head.in_channels = [64, 128, 256, 512]
    head.pixel_decoder.encoder.num_layers = 1
    head.transformer_decoder.num_layers = 2
    head.num_queries = 12
    model.train_cfg.update(num_points=64)
    expected = losses(copy.deepcopy(model), masks=True)
    model.train_cfg.assigner.type = 'mmdetr_plugin.HungarianAssigner'
    got = losses(model, masks=True)
    assert any('dice' in key for key in expected)
    assert_equal(got, expected)


def test_a_cost_without_its_field_is_refused():
    costs = [dict(type='mmdet.BBoxL1Cost')]
    assigner = TASK_UTILS.build(dict(type='mmdetr_plugin.HungarianAssigner', match_costs=costs))
    pred, gt = InstanceData(scores=torch.rand(3, 2)), InstanceData(labels=torch.tensor([1]))
    with pytest.raises(ValueError, match=r"L1 cost needs bboxes .* got \['scores'\]"):
        assigner.assign(pred, gt)


def test_losses(detector):
    name, expected = detector
    model = small(name)
    for term in ('loss_cls', 'loss_bbox', 'loss_iou'):
        model.bbox_head[term].type = LOSSES[model.bbox_head[term].type]
    assert_equal(losses(model), expected)

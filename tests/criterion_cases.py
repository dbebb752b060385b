"""Predictions and objects that the tests of the criterion share."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger

from mmdetr_plugin.criterion import (
    BoxGIoULoss,
    BoxL1Loss,
    FocalClassLoss,
    HungarianAssigner,
    SetCriterion,
    SoftmaxClassLoss,
    Targets,
)

NUM_CLASSES = 5
BOX_COSTS = [
    dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
    dict(type='IoUCost', iou_mode='giou', weight=2.0),
]
FOCAL_COSTS = [dict(type='FocalLossCost', eps=1e-8, weight=2.0), *BOX_COSTS]
SOFTMAX_COSTS = [dict(type='ClassificationCost', weight=1.0), *BOX_COSTS]


def make_criterion(kind='focal', **kwargs):
    """A criterion with the published weights; ``kwargs`` replace its arguments."""
    focal = kind == 'focal'
    arguments = dict(
        num_classes=NUM_CLASSES,
        assigner=HungarianAssigner(FOCAL_COSTS if focal else SOFTMAX_COSTS),
        loss_cls=FocalClassLoss(loss_weight=2.0) if focal else SoftmaxClassLoss(),
        loss_bbox=BoxL1Loss(loss_weight=5.0),
        loss_iou=BoxGIoULoss(loss_weight=2.0),
    )
    return SetCriterion(**{**arguments, **kwargs})


def make_boxes(*shape, generator):
    """(*shape, 4) cxcywh, wholly inside the image."""
    size = 0.05 + 0.4 * torch.rand(*shape, 2, generator=generator)
    centre = size / 2 + (1 - size) * torch.rand(*shape, 2, generator=generator)
    return torch.cat((centre, size), -1)


def make_targets(counts, seed=0):
    """Random objects, ``counts[i]`` of them in the image named ``i.jpg``."""
    generator = torch.Generator().manual_seed(seed)
    return Targets(
        tuple(torch.randint(0, NUM_CLASSES, (n,), generator=generator) for n in counts),
        tuple(make_boxes(n, generator=generator) for n in counts),
        tuple(f'{i}.jpg' for i in range(len(counts))),
    )


def make_outputs(images=2, layers=3, queries=7, columns=NUM_CLASSES, proposals=0, seed=1):
    """Random predictions that take gradients."""
    generator = torch.Generator().manual_seed(seed)
    outputs = {
        'pred_logits': torch.randn(layers, images, queries, columns, generator=generator),
        'pred_boxes': make_boxes(layers, images, queries, generator=generator),
    }
    if proposals:
        outputs['enc_logits'] = torch.randn(images, proposals, columns, generator=generator)
        outputs['enc_boxes'] = make_boxes(images, proposals, generator=generator)
    return {name: tensor.requires_grad_() for name, tensor in outputs.items()}


def trained(losses):
    """The sum that the runner differentiates."""
    return sum(value for name, value in losses.items() if 'loss' in name)


class _Lines(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.fixture
def warned():
    """List of the warnings logged during a test."""
    logger, handler = MMLogger.get_current_instance(), _Lines()
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)

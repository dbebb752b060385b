"""What DEIMv2 changes in DEIM's training: blended objects, and another matching near the end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny
import torch
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from mmdetr_plugin.criterion.costs import CostInputs, build_cost
from mmdetr_plugin.datasets import BatchCopyBlend, BatchMixup
from mmdetr_plugin.engine.hooks import AssignerSwitchHook
from mmdetr_plugin.ops.boxes import cxcywh_to_xyxy, pairwise_iou

SIZE = (64, 96)
PLACE = (8, 16, 40, 36)  # of the one object: left, top, right, bottom


def batch() -> tuple[Tensor, SampleList]:
    """A black picture with a white object and a margin of grey, and a black one without objects."""
    images, samples = tiny.batch((0, 0), (SIZE, SIZE))
    images.zero_()
    left, top, right, bottom = PLACE
    images[0, :, top - 8 : bottom + 8, left - 8 : right + 8] = 0.5
    images[0, :, top:bottom, left:right] = 1.0
    for sample, boxes in zip(samples, ([PLACE], [])):
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
            labels=torch.full((len(boxes),), 2),
        )
    return images, samples


@pytest.mark.parametrize('margin', [0.0, 0.1])
def test_objects_are_blended_where_their_new_boxes_are(margin: float) -> None:
    images, samples = batch()
    blend = BatchCopyBlend(prob=1.0, number=3, ratio=(0.75, 0.75), margin=(margin, margin))
    made, samples = blend(images.clone(), samples)
    assert [len(sample.gt_instances) for sample in samples] == [2, 1]  # no object twice in one
    assert samples[1].gt_instances.labels.tolist() == [2]
    left, top, right, bottom = (int(x) for x in samples[1].gt_instances.bboxes[0])
    assert (right - left, bottom - top) == (PLACE[2] - PLACE[0], PLACE[3] - PLACE[1])
    torch.testing.assert_close(made[1, :, top:bottom, left:right].mean(), torch.tensor(0.25))
    around = made[1].clone()
    around[:, top:bottom, left:right] = 0
    values = around.unique().tolist()
    assert values in ([0.0], [0.0, 0.125]) if margin else values == [0.0]
    assert (around > 0).sum() <= 3 * (38 * 24 - 32 * 20)  # a tenth of the sides, on each side


def test_some_batches_stay_as_they_are() -> None:
    images, samples = batch()
    assert BatchCopyBlend(prob=0.0)(images, samples)[0] is images
    assert BatchCopyBlend(prob=1.0, min_area=1000)(images, samples)[0] is images
    mixed, samples = BatchMixup(prob=1.0)(images, samples)
    assert BatchCopyBlend(prob=1.0)(mixed, samples)[0] is mixed


@pytest.mark.parametrize('options', [{'prob': 2.0}, {'number': 0}, {'ratio': (0.6, 0.4)}])
def test_unfit_options_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match='ratio must rise and number be positive, got'):
        BatchCopyBlend(**options)


def test_masks_are_refused() -> None:
    images, samples = tiny.batch((1, 0), (SIZE, SIZE))
    with pytest.raises(ValueError, match=r'boxes alone .*, got masks; .* with_mask=False'):
        BatchCopyBlend(prob=1.0)(images, samples)


def test_quality_cost() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 3, generator=generator)
    pred, objects = (0.3 + 0.4 * torch.rand(2, n, 4, generator=generator) for n in (5, 2))
    labels = torch.tensor([[0, 2], [1, 1]])
    corners = cxcywh_to_xyxy(pred), cxcywh_to_xyxy(objects)
    inputs = CostInputs(logits, labels, pred, corners[0], objects, corners[1])
    cost = build_cost(dict(type='QualityCost', alpha=3.0, weight=2.0))
    overlap = pairwise_iou(*corners)
    for image, query, target in torch.cartesian_prod(*map(torch.arange, (2, 5, 2))).tolist():
        score = logits[image, query, labels[image, target]].sigmoid()
        expected = -2 * score * overlap[image, query, target] ** 3
        torch.testing.assert_close(cost(inputs)[image, query, target], expected)
    logits[0, 1, 0] = torch.inf
    assert cost(inputs)[0, 1].isnan().all()


def test_matching_changes_at_an_epoch_and_back_after_training() -> None:
    model = tiny.build('ddq_detr_r50')  # one of its branches has an assigner of its own
    first = model.criterion.assigner
    own = [part.assigner for part in model.criterion.branches.values()]
    later = dict(type='HungarianAssigner', match_costs=[dict(type='QualityCost')])
    hook = AssignerSwitchHook(later, begin=2)
    runner = SimpleNamespace(model=model, epoch=0)
    hook.before_train(runner)
    used = []
    for runner.epoch in range(4):
        hook.before_train_epoch(runner)
        used.append(model.criterion.assigner)
        kept = [part.assigner for part in model.criterion.branches.values()]
        assert all(a is b for a, b in zip(kept, own) if b is not first)
    assert used == [first, first, hook.later, hook.later]
    hook.after_train(runner)
    assert model.criterion.assigner is first
    resumed = AssignerSwitchHook(later, begin=2)
    resumed.before_train(runner)
    resumed.before_train_epoch(runner)
    assert model.criterion.assigner is resumed.later

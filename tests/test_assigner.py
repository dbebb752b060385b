"""What must hold of the matching, whatever the model."""

import pytest
import torch
from criterion_cases import (
    FOCAL_COSTS,
    NUM_CLASSES,
    SOFTMAX_COSTS,
    make_boxes,
    make_criterion,
    make_outputs,
    make_targets,
    warned,  # noqa: F401
)
from mmdet.registry import TASK_UTILS as MMDET_TASK_UTILS
from mmengine.structures import InstanceData

from mmdetr_plugin.criterion import HungarianAssigner, Targets
from mmdetr_plugin.ops.assignment import replace_nonfinite
from mmdetr_plugin.ops.boxes import cxcywh_to_xyxy

COUNTS = (3, 0, 5)


def pairs(matches, prefix=''):
    """[{query: object} of each image]."""
    return [dict(zip(q.tolist(), t.tolist())) for q, t in matches[prefix]]


def image(outputs, targets, i):
    """One image of a batch."""
    one = {name: tensor[:, i : i + 1] for name, tensor in outputs.items() if 'pred' in name}
    one |= {name: tensor[i : i + 1] for name, tensor in outputs.items() if 'enc' in name}
    fields = (targets.labels, targets.boxes, targets.image_names)
    return one, Targets(*(field[i : i + 1] for field in fields))


@pytest.mark.parametrize('kind', ['focal', 'softmax'])
def test_batch_matches_as_single_images(kind):
    columns = NUM_CLASSES + (kind == 'softmax')
    outputs = make_outputs(len(COUNTS), columns=columns, proposals=40)
    criterion, targets = make_criterion(kind), make_targets(COUNTS)
    together = criterion.match(outputs, targets)
    assert list(together) == ['d0.', 'd1.', '', 'enc_']
    for i in range(len(COUNTS)):
        alone = criterion.match(*image(outputs, targets, i))
        for prefix in together:
            assert pairs(together, prefix)[i] == pairs(alone, prefix)[0]


def test_pairs_are_sorted_by_query():
    matches = make_criterion().match(make_outputs(), make_targets((5, 7)))
    for pairs_of_layer in matches.values():
        for query, target in pairs_of_layer:
            assert query.tolist() == sorted(query.tolist())
            assert sorted(target.tolist()) == list(range(len(target)))


def test_permuting_queries_permutes_matches():
    criterion, outputs, targets = make_criterion(), make_outputs(), make_targets((3, 4))
    order = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    permuted = criterion.match({k: v[:, :, order] for k, v in outputs.items()}, targets)
    plain = criterion.match(outputs, targets)
    for prefix in plain:
        for before, after in zip(pairs(plain, prefix), pairs(permuted, prefix)):
            assert {order[q].item(): t for q, t in after.items()} == before


def test_proposals_are_matched_without_classes():
    outputs = make_outputs(1, proposals=30)
    targets = make_targets((4,))
    swapped = Targets(
        tuple((x + 1) % NUM_CLASSES for x in targets.labels), targets.boxes, ('a.jpg',)
    )
    criterion = make_criterion()
    assert pairs(criterion.match(outputs, targets), 'enc_') == pairs(
        criterion.match(outputs, swapped), 'enc_'
    )


def test_more_objects_than_queries(warned):  # noqa: F811
    outputs, targets = make_outputs(queries=3), make_targets((5, 2))
    matches = make_criterion().match(outputs, targets)
    assert [len(query) for query, _ in matches['']] == [3, 2]
    assert [line for line in warned if '0.jpg has 5 objects, more than the 3 queries: 2' in line]


def broken(value, where):
    """Predictions of which entry ``where`` = (tensor, index) is ``value``."""
    name, index = where
    outputs = {k: v.detach().clone() for k, v in make_outputs(queries=6).items()}
    outputs[name][index] = value
    return outputs


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize(
    ('where', 'term'),
    [(('pred_logits', (1, 1, 4)), 'class'), (('pred_logits', (1, 1, 4, 2)), 'class')],
)
def test_nonfinite_logits_leave_objects_to_finite_queries(value, where, term, warned):  # noqa: F811
    matches = make_criterion().match(broken(value, where), make_targets((2, 5)))
    assert sorted(pairs(matches, 'd1.')[1]) == [0, 1, 2, 3, 5]
    assert len(warned) == 1
    assert f'decoder layer 1, 1.jpg ({term})' in warned[0]


def test_nonfinite_boxes_are_named(warned):  # noqa: F811
    outputs = broken(float('nan'), ('pred_boxes', (2, 0, 1)))
    matches = make_criterion('focal').match(outputs, make_targets((5, 1)))
    assert 1 not in pairs(matches)[0]
    assert 'decoder layer 2, 0.jpg (L1, GIoU)' in warned[0]


def test_all_nan_still_matches(warned):  # noqa: F811
    outputs = {k: torch.full_like(v, float('nan')) for k, v in make_outputs().items()}
    matches = make_criterion().match(outputs, make_targets((2, 3)))
    assert [len(query) for query, _ in matches['']] == [2, 3]
    assert len(warned) == 1


def test_saturated_half_precision_logits_are_finite(warned):  # noqa: F811
    for sign in (60.0, -60.0):
        outputs = {k: v.detach().half() for k, v in make_outputs().items()}
        outputs['pred_logits'].fill_(sign)
        make_criterion().match(outputs, make_targets((3, 2)))
    assert not warned


def test_nonfinite_steps_in_a_row_end_training(warned):  # noqa: F811
    criterion = make_criterion(assigner=HungarianAssigner(FOCAL_COSTS, max_nonfinite_steps=2))
    bad, good = broken(float('nan'), ('pred_logits', (0, 0, 0))), make_outputs()
    targets = make_targets((2, 5))
    for outputs in (bad, bad, good, bad, bad):
        criterion.match(outputs, targets)
    with pytest.raises(FloatingPointError, match=r'3 steps in a row.*0\.jpg.*learning rate.*fp16'):
        criterion.match(bad, targets)
    assert len(warned) == 1  # the first of its kind, the next would be the tenth


def test_replacement_of_nonfinite_costs():
    inf, nan = float('inf'), float('nan')
    cost = torch.tensor([[1.0, nan], [-inf, 3.0], [inf, 2.0]]).numpy()
    assert replace_nonfinite(cost).tolist() == [[1, 4], [4, 3], [4, 2]]
    assert (replace_nonfinite(cost * nan) == 0).all()


def test_boxes_without_an_area_are_dropped(warned):  # noqa: F811
    outputs, whole = make_outputs(1), make_targets((4,))
    boxes = whole.boxes[0].clone()
    boxes[1, 2] = 0
    with_degenerate = Targets(whole.labels, (boxes,), ('thin.jpg',))
    keep = [0, 2, 3]
    without = Targets((whole.labels[0][keep],), (boxes[keep],), ('thin.jpg',))
    criterion = make_criterion()
    expected = criterion(outputs, without)
    for name, value in criterion(outputs, with_degenerate).items():
        torch.testing.assert_close(value, expected[name])
    matched = pairs(criterion.match(outputs, with_degenerate))[0]
    assert sorted(matched.values()) == keep
    assert 'dropped 1, 1 of them in thin.jpg' in warned[0]


def test_one_copy_to_the_host(monkeypatch):
    copies = []
    for method in ('cpu', 'item', 'tolist', '__bool__', '__int__', '__float__', 'nonzero'):
        original = getattr(torch.Tensor, method)

        def counted(self, *args, _original=original, _method=method, **kwargs):
            copies.append(_method)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, method, counted)
    criterion, outputs = make_criterion(), make_outputs(proposals=20)
    criterion(outputs, make_targets((2, 5)))
    assert copies == ['cpu']
    criterion(outputs, make_targets((0, 0)))
    assert copies == ['cpu']


def instances(seed=3, queries=20, objects=6, size=(48, 64)):
    """Predictions and objects of one image as mmdet's heads make them, in pixels."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.tensor([size[1], size[0]] * 2)
    pred = InstanceData(
        scores=torch.randn(queries, NUM_CLASSES, generator=generator),
        bboxes=cxcywh_to_xyxy(make_boxes(queries, generator=generator)) * pixels,
    )
    gt = InstanceData(
        labels=torch.randint(0, NUM_CLASSES, (objects,), generator=generator),
        bboxes=cxcywh_to_xyxy(make_boxes(objects, generator=generator)) * pixels,
    )
    return pred, gt, dict(img_shape=size)


@pytest.mark.parametrize(
    'costs',
    [
        FOCAL_COSTS,
        SOFTMAX_COSTS,
        [dict(type='mmdet.FocalLossCost', alpha=0.4, gamma=1.5, weight=3.0)],
        [dict(type='BBoxL1Cost')],
        [dict(type='IoUCost', iou_mode='iou', weight=2.0)],
    ],
)
@pytest.mark.parametrize(('queries', 'objects'), [(20, 6), (4, 6), (5, 0)])
def test_assign_equals_mmdet(costs, queries, objects):
    def mmdet_type(cfg):
        return {**cfg, 'type': 'mmdet.' + cfg['type'].removeprefix('mmdet.')}

    theirs = MMDET_TASK_UTILS.build(
        dict(type='mmdet.HungarianAssigner', match_costs=[mmdet_type(cost) for cost in costs])
    )
    ours = HungarianAssigner(costs)
    inputs = instances(queries=queries, objects=objects)
    got, expected = ours.assign(*inputs), theirs.assign(*inputs)
    assert got.num_gts == expected.num_gts == objects
    assert torch.equal(got.gt_inds, expected.gt_inds)
    assert torch.equal(got.labels, expected.labels)
    if objects:
        total = sum(cost(*inputs) for cost in theirs.match_costs)
        torch.testing.assert_close(ours._cost_of_image(*inputs), total, rtol=1e-5, atol=1e-5)


def test_assign_survives_nonfinite_scores(warned):  # noqa: F811
    pred, gt, meta = instances(queries=8)
    pred.scores[3] = float('nan')
    result = HungarianAssigner(FOCAL_COSTS).assign(pred, gt, dict(meta, img_path='bad.jpg'))
    assert result.gt_inds[3] == 0
    assert (result.gt_inds > 0).sum() == 6
    assert 'bad.jpg' in warned[0]


class CentreCost:
    """A cost of the user's own: distance of box centres."""

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, pred_instances, gt_instances, img_meta=None, **kwargs):
        height, width = img_meta['img_shape']
        size = pred_instances.bboxes.new_tensor((width, height))
        pred, gt = (x.bboxes.unflatten(-1, (2, 2)).mean(-2) for x in (pred_instances, gt_instances))
        return self.weight * torch.cdist(pred / size, gt / size)


def test_costs_of_other_types(monkeypatch):
    monkeypatch.setitem(MMDET_TASK_UTILS.module_dict, 'CentreCost', CentreCost)
    assigner = HungarianAssigner([dict(type='CentreCost', weight=3.0)])
    outputs, targets = make_outputs(), make_targets((3, 5))
    matches = pairs(make_criterion(assigner=assigner).match(outputs, targets))
    for i, found in enumerate(matches):
        pred = InstanceData(
            scores=outputs['pred_logits'][-1, i].detach(),
            bboxes=cxcywh_to_xyxy(outputs['pred_boxes'][-1, i].detach()),
        )
        gt = InstanceData(labels=targets.labels[i], bboxes=cxcywh_to_xyxy(targets.boxes[i]))
        result = assigner.assign(pred, gt, dict(img_shape=(1, 1)))
        queries = result.gt_inds.nonzero().flatten().tolist()
        assert found == {q: result.gt_inds[q].item() - 1 for q in queries}


def test_no_cost_is_an_error():
    with pytest.raises(ValueError, match='at least one cost'):
        HungarianAssigner([])

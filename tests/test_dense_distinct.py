"""The parts of DDQ: suppression of overlapping boxes, dense queries, losses weighted by quality."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from torch import Tensor

from mmdetr_plugin.criterion import Matched, QualityClassLoss, QualityGIoULoss, SetCriterion
from mmdetr_plugin.criterion.quality import QualityLoss
from mmdetr_plugin.heads import DistinctHead
from mmdetr_plugin.ops.boxes import pairwise_iou
from mmdetr_plugin.ops.nms import distinct
from mmdetr_plugin.structures import Branch, Outputs, Prediction, Targets

COSTS = [{'type': 'FocalLossCost'}, {'type': 'BBoxL1Cost'}, {'type': 'IoUCost'}]


def random_boxes(*shape: int, seed: int = 0) -> Tensor:
    corner, extent = torch.rand(2, *shape, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat((corner, corner + 0.2 + extent), -1)


def one_by_one(boxes: Tensor, scores: Tensor, threshold: float, candidates: Tensor) -> list[int]:
    kept: list[int] = []
    for box in scores.argsort(descending=True).tolist():
        overlaps = pairwise_iou(boxes[box][None], boxes[kept])
        if candidates[box] and not (overlaps > threshold).any():
            kept.append(box)
    return sorted(kept)


def test_distinct_boxes() -> None:
    boxes, scores = random_boxes(3, 40), torch.rand(3, 40)
    candidates = torch.rand(3, 40) < 0.7
    for given in (None, candidates):
        kept = distinct(boxes, scores, 0.4, given)
        for image in range(3):
            allowed = torch.ones(40, dtype=torch.bool) if given is None else given[image]
            expected = one_by_one(boxes[image], scores[image], 0.4, allowed)
            assert kept[image].nonzero().flatten().tolist() == expected
            assert 1 < len(expected) < allowed.sum()
    assert not distinct(boxes, scores, 0.4, torch.zeros_like(candidates)).any()


def test_distinct_boxes_in_a_compiled_graph() -> None:
    boxes, scores = random_boxes(2, 30), torch.rand(2, 30)
    compiled = torch.compile(distinct, backend='eager', fullgraph=True)
    assert torch.equal(compiled(boxes, scores, 0.4), distinct(boxes, scores, 0.4))


# ---- the head -----------------------------------------------------------------------------------


def test_selected_queries_see_all_and_the_others_see_them() -> None:
    model = tiny.build('ddq_detr_r50')
    model.head.iou_threshold = 0.0
    masks = []
    model.decoder.layers[1].register_forward_pre_hook(lambda _, args: masks.append(args[0]))
    with torch.no_grad():
        layers = model.run(*tiny.batch()).layers
    assert layers[0].kept is None
    (mask,) = (state.self_mask[:, 0] for state in masks)
    seen = mask.all(1)  # by everyone
    assert torch.equal(mask, seen[:, None] | seen[:, :, None])
    assert not seen.all() and seen.any(1).all()
    assert torch.equal(layers[1].kept, seen | seen[:, :1])


def test_queries_that_are_not_kept_are_no_detections() -> None:
    logits = torch.tensor([[[3.0, 1.0], [9.0, 9.0], [2.0, 0.0]]])
    prediction = Prediction(logits, torch.rand(1, 3, 4), kept=torch.tensor([[True, False, True]]))
    best = prediction.ranked().flatten(1).topk(4).values
    assert best.tolist() == [[3.0, 2.0, 1.0, 0.0]]
    assert torch.equal(replace(prediction, kept=None).ranked(), logits)


def test_what_the_head_needs() -> None:
    with pytest.raises(ValueError, match=r'a pair of heads for each layer.*shared=True'):
        DistinctHead(3, shared=True)
    cfg = tiny.load('ddq_detr_r50').model
    branches = [{'type': 'GroupQueries', 'groups': 2, 'separate': True}]
    model = tiny.build(
        'ddq_detr_r50', branches=branches, criterion={**cfg.criterion, 'branches': {}}
    )
    with pytest.raises(ValueError, match='without groups, got GroupQueries'):
        model.loss(*tiny.batch())


# ---- the dense queries --------------------------------------------------------------------------


def test_dense_queries() -> None:
    model = tiny.build('ddq_detr_r50')
    targets = Targets.from_samples(tiny.batch((3, 0))[1], tiny.NUM_CLASSES)
    outputs = model.run(*tiny.batch((3, 0)), targets)
    denoising, detecting, dense = outputs.runs()
    assert (denoising.prefix, detecting.prefix, dense.prefix) == ('dn_', '', 'dense_')
    assert (detecting.size, dense.size) == (tiny.NUM_QUERIES, tiny.NUM_QUERIES * 3 // 2)
    assert dense.targets.counts == (12, 0)  # each object four times
    assert dense.targets.originals[0].tolist() == [0, 1, 2] * 4
    assert dense.trained.all(1).tolist() == [True, False]
    assert outputs.proposals.others[0].branch is dense
    assert dense.targets.tile(2).copies == (4, 4, 4, 4)
    assert len(model.run(*tiny.batch()).runs()) == 1  # none in a detection


def test_more_objects_than_dense_queries() -> None:
    model = tiny.build('ddq_detr_r50')
    counts = (tiny.NUM_QUERIES, tiny.MANY)
    targets = Targets.from_samples(tiny.batch(counts)[1], tiny.NUM_CLASSES)
    dense = model.run(*tiny.batch(counts), targets).runs()[-1]
    assert dense.targets.counts == (tiny.NUM_QUERIES, 0)  # once, and not at all


# ---- the losses ---------------------------------------------------------------------------------


def criterion(**changes: object) -> SetCriterion:
    assigner = {'type': 'HungarianAssigner', 'match_costs': COSTS}
    losses = {'loss_cls': {'type': 'FocalClassLoss'}, 'loss_bbox': {'type': 'BoxL1Loss'}}
    return SetCriterion(3, assigner, losses, **changes)


def test_queries_that_are_not_kept_are_neither_matched_nor_trained() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, boxes = (torch.randn(2, 8, n, generator=generator) for n in (3, 4))
    boxes = boxes.sigmoid()
    targets = Targets.from_samples(tiny.samples((3, 2), ((50, 60),) * 2, 3), 3)
    kept = torch.rand(2, 8, generator=generator).argsort(1) < 4
    part = Prediction(logits, boxes, kept=kept)
    few = Prediction(logits[kept].view(2, 4, -1), boxes[kept].view(2, 4, -1))
    got, expected = (criterion()(Outputs((p,)), targets) for p in (part, few))
    for name in ('loss_cls', 'loss_bbox'):
        torch.testing.assert_close(got[name], expected[name])


def test_too_few_queries_are_kept() -> None:
    """The objects that are left take queries that have no losses."""
    logits, boxes = torch.randn(1, 8, 3), torch.rand(1, 8, 4)
    targets = Targets.from_samples(tiny.samples((3,), ((50, 60),), 3), 3)
    kept = torch.arange(8)[None] < 2
    got = criterion()(Outputs((Prediction(logits, boxes, kept=kept),)), targets)
    loss = sum(got[name] for name in ('loss_cls', 'loss_bbox'))
    assert loss.isfinite()
    ((query, _),) = criterion().match(Outputs((Prediction(logits, boxes, kept=kept),)), targets)['']
    assert {0, 1} < set(query.tolist())


def test_a_branch_has_losses_and_an_assigner_of_its_own() -> None:
    many = {'losses': {'loss_iou': {'type': 'BoxGIoULoss'}}}
    own = criterion(branches={'many_': many})
    assert own.branches['many_'].assigner is own.assigner
    costs = {'type': 'HungarianAssigner', 'match_costs': [{'type': 'BBoxL1Cost'}]}
    contrary = criterion(branches={'many_': {**many, 'assigner': costs}})
    contrary.branches['many_'].assigner.costs[0].weight = -1.0  # pairs those that are far apart
    targets = Targets.from_samples(tiny.samples((2,), ((50, 60),), 3), 3)
    prediction = Prediction(torch.randn(1, 6, 3), torch.rand(1, 6, 4))
    outputs = Outputs((prediction,), branches=(Branch(3), Branch(3, 'many_')))
    near, far = own(outputs, targets), contrary(outputs, targets)
    assert {name for name in near if 'loss' in name} == {'loss_cls', 'loss_bbox', 'many_loss_iou'}
    assert far['loss_bbox'] == near['loss_bbox']
    assert far['many_loss_iou'] > near['many_loss_iou']
    with pytest.raises(ValueError, match=r"names of losses must begin with 'loss'.*\['iou'\]"):
        criterion(branches={'many_': {'losses': {'iou': None}}})


def test_quality(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best pair of an object has its IoU, others less as they are aligned less."""
    seen: list[Matched] = []
    quality = QualityLoss.quality

    def watch(loss: QualityLoss, matched: Matched) -> Tensor:
        seen.append(matched)
        return quality(loss, matched)

    monkeypatch.setattr(QualityLoss, 'quality', watch)
    losses = {'loss_cls': QualityClassLoss(), 'loss_iou': QualityGIoULoss(loss_weight=2.0)}
    targets = Targets.from_samples(tiny.samples((2, 1), ((50, 60),) * 2, 3), 3).repeat((2, 3))
    noise = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(2)).sigmoid()
    boxes = (targets.padded_boxes[:, :1] + 0.1 * noise).requires_grad_()
    logits = torch.randn(2, 7, 3, requires_grad=True)
    branch = Branch(7, 'many_', targets=targets)
    outputs = Outputs(
        (Prediction(torch.cat((logits, logits), 1), torch.cat((boxes, boxes), 1)),),
        branches=(Branch(7), branch),
    )
    got = criterion(branches={'many_': {'losses': losses}})(outputs, targets)
    matched = seen[0]
    values, iou = quality(losses['loss_cls'], matched)[0], matched.iou[0]
    aligned = (
        iou**6 * matched.logits.flatten(1).gather(1, matched.query * 3 + matched.labels).sigmoid()
    )
    for number in matched.objects[0].unique():
        own = matched.objects[0] == number
        assert own.sum() in (2, 3)
        best = aligned[0][own].argmax()
        torch.testing.assert_close(values[own][best], iou[own].max(), rtol=1e-3, atol=1e-4)
        ratio = aligned[0][own] / aligned[0][own].max()
        torch.testing.assert_close(values[own], ratio * iou[own].max(), rtol=1e-3, atol=1e-4)
    sum(got[f'many_{name}'] for name in losses).backward()
    assert boxes.grad.any() and logits.grad.any()  # what is cached keeps its gradient

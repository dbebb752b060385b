"""TSP: its matching rule on cases made by hand, its losses, its optimizer, its size."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import tiny
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from mmdetr_plugin.criterion.candidates import CandidateAssigner, Candidates
from mmdetr_plugin.criterion.cells import (
    CandidateFocalLoss,
    centrality,
    distance_giou,
    target_distances,
)
from mmdetr_plugin.criterion.matched import Matched
from mmdetr_plugin.criterion.regions import RegionClassLoss
from mmdetr_plugin.criterion.sources import Source
from mmdetr_plugin.heads import ClasswiseNMS
from mmdetr_plugin.queries.regions import noised, of_objects
from mmdetr_plugin.structures import Branch, CellReference, Targets
from mmdetr_plugin.testing.counting import build_shapes

BOXES = torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.4, 0.2]])
CENTRAL = [dict(type='CentralClassCost'), dict(type='DistanceGIoUCost', weight=2.0)]
REGION = [dict(type='CandidateClassCost'), dict(type='CandidateGIoUCost', weight=2.0)]


def source(candidates: list[int], logits: Tensor, trained: Tensor | None = None, **extra) -> Source:
    """One layer and image with two objects, of the classes 0 and 1."""
    targets = Targets((torch.tensor([0, 1]),), (BOXES,), ('one',))
    number = len(candidates)
    branch = Branch(number, candidates=torch.tensor([candidates]), trained=trained)
    boxes = torch.full((1, 1, number, 4), 0.5)
    made = {name: value[None, None] for name, value in extra.items()}
    return Source('layer', ('',), logits[None, None], boxes, targets, branch, made)


def cells(centres: list[tuple[float, float]], candidates: list[int], logits: Tensor) -> Source:
    """Cells of a tenth of the image, which predict the distances to their objects exactly."""
    cell = torch.tensor([(x, y, 0.1, 0.1) for x, y in centres])
    empty = source(candidates, logits, cell=cell, distances=torch.zeros(len(centres), 4))
    exact = target_distances(Candidates.of(empty))[0, 0]
    central = torch.zeros(len(centres))
    return source(candidates, logits, cell=cell, distances=exact, central=central)


def pairs(assigner: CandidateAssigner, given: Source) -> list[tuple[int, int]]:
    (match,) = assigner.match([given], 3)
    return list(zip(match.query[0].tolist(), match.target[0].tolist()))


def test_an_object_takes_its_most_central_cell_of_equal_scores() -> None:
    centres = [(0.25, 0.25), (0.3, 0.3), (0.7, 0.7), (0.7, 0.65)]
    given = cells(centres, [0, 0, 1, 1], torch.zeros(4, 3))
    assert pairs(CandidateAssigner(CENTRAL), given) == [(1, 0), (2, 1)]


def test_a_better_score_and_a_better_box_win() -> None:
    centres = [(0.3, 0.3), (0.3, 0.3), (0.7, 0.7)]
    logits = torch.zeros(3, 3)
    logits[1, 0] = 2
    given = cells(centres, [0, 0, 1], logits)
    assert pairs(CandidateAssigner(CENTRAL), given) == [(1, 0), (2, 1)]
    given.extra['distances'][0, 0, 1] *= 3  # the box costs more than the score gains
    assert pairs(CandidateAssigner(CENTRAL), given) == [(0, 0), (2, 1)]


@pytest.mark.parametrize('score', [-5.0, 5.0])
def test_only_candidates_are_matched(score: float) -> None:
    """However well another query fits; objects without a candidate stay unmatched."""
    logits = torch.zeros(3, 3)
    logits[2] = score
    given = cells([(0.3, 0.3)] * 3, [0, -1, -1], logits)
    (match,) = CandidateAssigner(CENTRAL).match([given], 3)
    assert (match.query.tolist(), match.target.tolist()) == ([[0]], [[0]])
    assert (match.counts, match.objects, match.unmatched) == ((1,), (2,), 1)
    nothing = cells([(0.3, 0.3)] * 2, [-1, -1], torch.zeros(2, 3))
    assert pairs(CandidateAssigner(CENTRAL), nothing) == []


def test_regions_by_class_and_the_box_of_the_class() -> None:
    boxes = torch.full((3, 3, 4), 0.5)
    boxes[0, 1], boxes[1, 1], boxes[2, 1] = BOXES[1] + 0.05, BOXES[1], BOXES[1]
    logits = torch.zeros(3, 4)
    logits[2, 1] = 1
    given = source([1, 1, 1], logits, unclipped=boxes)
    assert pairs(CandidateAssigner(REGION), given) == [(2, 1)]
    given.logits[0, 0, 0, 1] = 1.05  # hardly better, but its box is shifted
    assert pairs(CandidateAssigner(REGION), given) == [(2, 1)]


def test_distances_and_overlaps_by_hand() -> None:
    ref = CellReference(torch.tensor([[[0.5, 0.5, 0.1, 0.1]]]))
    moved = ref.moved(torch.tensor([[[1.0, 2.0, 3.0, 2.0]]])).values[0, 0]
    torch.testing.assert_close(moved, torch.tensor([0.6, 0.5, 0.4, 0.4]))
    assert centrality(torch.tensor([1.0, 2.0, 4.0, 2.0])) == pytest.approx(0.5)
    same = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert distance_giou(same, same) == pytest.approx(1)
    # Intersection 1 x 1, union 1 + 4 - 1, hull 4, each with one more in the ratio.
    quarter, whole = torch.full((4,), 0.5), torch.ones(4)
    assert distance_giou(quarter, whole) == pytest.approx(2 / 5)


def test_unmatched_candidates_count_a_tenth_in_their_column() -> None:
    given = cells(
        [(0.3, 0.3), (0.28, 0.28), (0.7, 0.7), (0.9, 0.1)], [0, 0, 1, -1], torch.zeros(4, 3)
    )
    (match,) = CandidateAssigner(CENTRAL).match([given], 3)
    loss = CandidateFocalLoss()(Matched(given, match, torch.ones(()), 3))
    one = 0.25 * math.log(2)  # p = 1/2, gamma = 2
    expected = 2 * 0.25 * one + 0.75 * one * (9 + 0.1)
    assert loss.tolist() == pytest.approx([expected / (2 * (2 + 0.1 * 3))])


def test_easy_background_counts_little() -> None:
    logits = torch.zeros(3, 4)
    trained = torch.tensor([[True, True, False]])  # the last one is padding
    given = source([1, -1, -1], logits, trained, unclipped=BOXES[1].expand(3, 3, 4))
    (match,) = CandidateAssigner(REGION).match([given], 3)
    loss = RegionClassLoss()(Matched(given, match, torch.ones(()), 3))
    hard = 2 * (1 - 0.25) ** 2
    assert loss.tolist() == pytest.approx([math.log(4) * (1 + 0.1 * hard) / 1.1], rel=1e-5)


def test_regions_get_the_object_of_the_largest_overlap() -> None:
    objects = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 16.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 15.0], [0.0, 0.0, 9.0, 9.0], [50.0, 50.0, 60.0, 60.0]])
    assert of_objects(boxes, objects).tolist() == [1, 0, -1]
    assert of_objects(boxes, objects[:0]).tolist() == [-1] * 3
    assert (of_objects(noised(objects.repeat(50, 1)), objects) >= 0).float().mean() > 0.9


def test_suppression_is_by_class_and_may_leave_fewer() -> None:
    logits = torch.full((2, 3, 2), -20.0)
    logits[0, :, 0] = torch.tensor([2.0, 1.0, 0.0])
    logits[0, 1, 1] = 3.0
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.4], [0.1, 0.1, 0.1, 0.1]])
    found = ClasswiseNMS(0.6, max_per_img=3, root=True)(logits, boxes.expand(2, 3, 4))
    assert list(zip(found.queries[0].tolist(), found.labels[0].tolist())) == [
        (1, 1),
        (0, 0),
        (2, 0),
    ]
    torch.testing.assert_close(found.scores[0, 2], torch.tensor(0.5).sqrt())
    assert found.counts == (3, 3)


def test_regions_are_cut_from_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps whose values are the places of their cells in pixels: x, and y in every other channel."""
    model = tiny.build('tsp_rcnn_r50').eval()
    images, samples = tiny.batch(sizes=((128, 192), (128, 192)))
    memory = model.embed(model.neck(model.backbone(images)), samples, (128, 192))
    places = []
    for (height, width), stride in zip(memory.shapes, (4, 8, 16, 32, 64, 128)):
        y, x = (stride * (torch.arange(n) + 0.5) for n in (height, width))
        grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), -1).flatten(0, 1)
        places.append(grid.repeat(len(images), 1, memory.tokens.shape[-1] // 2))
    memory = replace(memory, tokens=torch.cat(places, 1))
    regions = torch.tensor([[30.0, 40, 60, 90], [100, 20, 170, 60], [40, 30, 120, 100]])
    found = [InstanceData(bboxes=regions)] * len(images)
    monkeypatch.setattr(model.queries.rpn_head, 'predict', lambda *_, **__: found)
    cut = []
    model.queries.cut.register_forward_hook(lambda _, __, made: cut.append(made))
    with torch.no_grad():
        model.queries(memory, model.head)
    values = cut[0].unflatten(0, (len(images), -1))
    for axis, mean_over in ((0, -2), (1, -1)):
        begin, end = regions[:, axis, None], regions[:, 2 + axis, None]
        bins = begin + (end - begin) * (torch.arange(7) + 0.5) / 7
        made = values[:, :, axis].mean(mean_over)
        torch.testing.assert_close(made, bins.expand_as(made), rtol=0, atol=0.1)


def test_the_optimizer_splits_and_clips_the_transformer_alone() -> None:
    cfg = tiny.load('tsp_fcos_r50')
    model = tiny.build('tsp_fcos_r50')
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    wrapper.zero_grad()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    with tiny.training(model):
        losses = model.loss(*tiny.batch())
    wrapper.backward(sum(v for k, v in losses.items() if 'loss' in k))
    wrapper.step()
    grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    layers = torch.cat([g.flatten() for n, g in grads.items() if n.startswith('decoder.')])
    others = torch.cat([g.flatten() for n, g in grads.items() if not n.startswith('decoder.')])
    assert layers.norm() <= 0.0101 and others.norm() > 0.1
    name = 'decoder.layers.0.ffn.linear1.weight'
    step = (model.get_parameter(name) - before[name]).abs()
    assert step.max() <= 1.1e-4  # AdamW's first step is the rate
    name = 'head.central.weight'
    rate, decay = 0.01, 1e-4
    expected = before[name] - rate * (grads[name] + decay * before[name])
    torch.testing.assert_close(model.get_parameter(name).detach(), expected)
    state = wrapper.state_dict()
    wrapper.load_state_dict(state)
    wrapper.step()
    assert len(wrapper.optimizer.state) == len(grads)


def conv(inputs: int, outputs: int, side: int = 3) -> int:
    return outputs * (inputs * side * side + 1)


LAYER = 4 * (512 * 512 + 512) + 2 * 512 * 2048 + 2048 + 512 + 2 * 2 * 512
TRANSFORMER = 6 * LAYER + 2 * 512


def test_parameters_are_those_of_the_described_parts() -> None:
    """Counted from the official code's shapes, with 80 classes; the norms of ResNet-50 are frozen."""
    fpn = sum(conv(c, 256, 1) + conv(256, 256) for c in (512, 1024, 2048))
    extra = 2 * (conv(256, 256) + 2 * 256)
    towers = 8 * (conv(256, 256) + 2 * 256) + conv(256, 80)
    token = 512 * 512 + 512 + 2 * 512
    heads = 513 * (80 + 4 + 1) + 5
    assert own('tsp_fcos_r50') == fpn + extra + towers + token + heads + TRANSFORMER + 5 * 512
    fpn += conv(256, 256, 1) + conv(256, 256)
    rpn = 4 * conv(256, 256) + 4 * 5 * 2 * 256 + conv(256, 9 * 5, 1)
    token = 512 * (256 * 49 + 1) + 513 * 512 + 2 * 512
    heads = 513 * 81 + 2 * 513 * 512 + 513 * 320
    assert own('tsp_rcnn_r50') == fpn + extra + rpn + token + heads + TRANSFORMER


def own(name: str) -> int:
    """Trainable parameters outside of the backbone."""
    model = build_shapes(tiny.load(name).model)
    named = model.named_parameters()
    return sum(p.numel() for n, p in named if p.requires_grad and not n.startswith('backbone.'))


def test_candidates_need_a_cost() -> None:
    with pytest.raises(ValueError, match='costs must name at least one cost, got an empty list'):
        CandidateAssigner([])

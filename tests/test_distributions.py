"""Boxes whose sides are distributions: bins, head, losses, and the union of matches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from criterion_cases import make_boxes, make_criterion, make_targets
from torch import Tensor

from mmdetr_plugin.criterion import (
    DecoupledDistillationLoss,
    FineGrainedLocalizationLoss,
    MatchabilityAwareClassLoss,
    VarifocalClassLoss,
)
from mmdetr_plugin.criterion.sources import Matches, Source
from mmdetr_plugin.criterion.union import unite
from mmdetr_plugin.heads import DistributionHead
from mmdetr_plugin.ops.boxes import cxcywh_to_xyxy, elementwise_iou
from mmdetr_plugin.ops.distributions import (
    between_bins,
    bin_distances,
    expected_distances,
    move_sides,
    side_distances,
)
from mmdetr_plugin.structures import Branch, LogitReference, Outputs, Prediction, State

REACH, SCALE = torch.tensor([0.5]), torch.tensor([4.0])
NUMBER = 33


def bins() -> Tensor:
    return bin_distances(NUMBER, REACH, SCALE)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def boxes(*shape: int, seed: int = 0) -> Tensor:
    return make_boxes(*shape, generator=torch.Generator().manual_seed(seed))


def test_bins_are_symmetric_rise_and_are_dense_in_the_middle() -> None:
    values = bins()
    torch.testing.assert_close(values, -values.flip(0))
    steps = values.diff()
    assert (steps > 0).all()
    assert values[-1] == 2 * REACH  # the paper's end, 2 a / c, in units of the side
    assert steps[NUMBER // 2] == steps[1:-1].min()
    # Equation 3 in the authors' units.
    inner = torch.tensor([(0.5 * 4 + 1) ** (2 * i / 30) - 1 for i in range(1, 16)])
    torch.testing.assert_close(values[NUMBER // 2 + 1 : -1] * SCALE, inner)


def test_sides_move_and_distances_are_found_again() -> None:
    start, moved = boxes(3, 7), 0.2 * random(3, 7, 4)
    found = side_distances(start, move_sides(start, moved))
    torch.testing.assert_close(found, moved, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(move_sides(start, torch.zeros(3, 7, 4)), start)
    # The left side alone, outwards by a tenth of the width.
    left = torch.zeros(3, 7, 4)
    left[..., 0] = 0.1
    wider = move_sides(start, left)
    torch.testing.assert_close(wider[..., 2], 1.1 * start[..., 2])
    torch.testing.assert_close(wider[..., 1::2], start[..., 1::2])


def test_neighbouring_bins_have_the_distance_as_their_mean() -> None:
    values = bins()
    distances = torch.linspace(-0.99, 0.99, 101)
    left, share = between_bins(distances, values.expand(101, -1))
    assert (values[left] <= distances).all() and (distances <= values[left + 1]).all()
    mean = values[left] * (1 - share) + values[left + 1] * share
    torch.testing.assert_close(mean, distances)
    left, share = between_bins(torch.tensor([-5.0, 5.0]), values.expand(2, -1))
    assert (left + share).tolist() == [0, NUMBER - 1]


def head_of(layers: int = 3, **options: object) -> DistributionHead:
    torch.manual_seed(0)
    head = DistributionHead(5, embed_dims=16, num_layers=layers, **options)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return head


def state_of(content: Tensor) -> State:
    ref = LogitReference(random(*content.shape[:2], 4, seed=5))
    return State(content, ref=ref)


def test_layers_add_to_the_distributions_of_one_initial_box() -> None:
    head, content = head_of(), random(2, 6, 16)
    (initial, first), state = head(content, state_of(content), 0)
    assert initial.name == 'initial' and first.name == ''
    expected = state_of(content).ref.moved(head.initial(content), 1e-5).unit()
    torch.testing.assert_close(initial.boxes, expected)
    (second,), after = head(content + 1, state, 1)
    added = head.box_branches[1](content + 1 + content).unflatten(-1, (4, NUMBER))
    torch.testing.assert_close(second.extra['corners'], first.extra['corners'] + added)
    assert torch.equal(second.extra['initial'], initial.boxes)
    means = expected_distances(second.extra['corners'], bins())
    torch.testing.assert_close(second.boxes, move_sides(initial.boxes, means))
    assert torch.equal(after.ref.unit(), second.boxes) and not after.ref.values.requires_grad


def test_gradients_reach_all_layers_but_not_the_initial_box() -> None:
    head, content = head_of(), random(2, 6, 16)
    _, state = head(content, state_of(content), 0)
    (second,), _ = head(content, state, 1)
    second.boxes.sum().backward()
    has = [branch.layers[0].weight.grad is not None for branch in head.box_branches]
    assert has == [True, True, False, False]
    assert head.initial.layers[0].weight.grad is None


def test_sharper_distributions_change_the_score() -> None:
    head, content = head_of(), random(2, 6, 16)
    (plain, own), _ = head(content, state_of(content), 0)
    assert (own.logits - plain.logits).std(-1).max() < 1e-5  # equal in all classes
    assert (own.logits - plain.logits).abs().max() > 1e-3
    (plain, own), _ = head_of(quality=False)(content, state_of(content), 0)
    assert torch.equal(own.logits, plain.logits)


@pytest.mark.parametrize('options', [{'num_bins': 32}, {'refine': 'iterative'}, {'shared': True}])
def test_unfit_heads_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match='DistributionHead'):
        DistributionHead(5, 16, 2, **options)


# ---- losses ---------------------------------------------------------------------------------------


def outputs_of(layers: int = 3, queries: int = 8, seed: int = 1) -> Outputs:
    """Random predictions of two images, with distributions."""
    initial = boxes(2, queries, seed=seed)
    made = []
    for layer in range(layers):
        corners = random(2, queries, 4, NUMBER, seed=seed + layer + 1).requires_grad_()
        predicted = move_sides(initial, expected_distances(corners, bins()))
        extra = {'corners': corners, 'initial': initial, 'bins': bins().expand(2, queries, -1)}
        logits = random(2, queries, 5, seed=seed + 20 + layer).requires_grad_()
        made.append(Prediction(logits, predicted, extra=extra))
    plain = Prediction(made[0].logits, initial, name='initial')
    return Outputs(tuple(made), others=(plain,))


def criterion_of(**options: object) -> torch.nn.Module:
    return make_criterion(
        loss_fgl=FineGrainedLocalizationLoss(), loss_ddf=DecoupledDistillationLoss(), **options
    )


def test_terms_that_read_distributions_leave_out_other_predictions() -> None:
    losses = criterion_of()(outputs_of(), make_targets((3, 2)))
    assert {'d0.loss_fgl', 'd1.loss_fgl', 'loss_fgl', 'initial.loss_bbox'} <= set(losses)
    assert 'initial.loss_fgl' not in losses
    assert losses['loss_ddf'] == 0 < losses['d0.loss_ddf']
    plain = Outputs.of(outputs_of().tensors())
    with pytest.raises(ValueError, match='corners'):
        criterion_of()(plain, make_targets((3, 2)))


def test_perfect_distributions_have_no_localization_loss() -> None:
    outputs, targets = outputs_of(layers=1), make_targets((8, 8))
    layer = outputs.layers[0]
    centre = torch.full((2, 8, 4, NUMBER), -50.0)
    centre[..., NUMBER // 2] = 50.0  # the sides of the initial box
    exact = torch.stack(targets.boxes)
    extra = {**layer.extra, 'corners': centre, 'initial': exact}
    outputs = Outputs((replace(layer, boxes=exact, extra=extra),))
    assert (
        criterion_of()(outputs, targets)['loss_fgl'] < 0.01
    )  # rounding moves a side by 1e-7, into the next bin


def test_equal_distributions_have_no_distillation_loss_and_the_teacher_no_gradient() -> None:
    outputs, targets = outputs_of(), make_targets((3, 2))
    losses = criterion_of()(outputs, targets)
    losses['d0.loss_ddf'].backward()
    gradients = [layer.extra['corners'].grad for layer in outputs.layers]
    assert (gradients[0].any() and gradients[2] is None) or not gradients[2].any()
    same = tuple(
        replace(layer, extra={**layer.extra, 'corners': outputs.layers[-1].extra['corners']})
        for layer in outputs.layers
    )
    losses = criterion_of()(replace(outputs, layers=same), targets)
    assert abs(losses['d0.loss_ddf']) < 1e-5


def test_distillation_loss_of_two_kinds_of_sides() -> None:
    """The authors' form: means over matched and other sides, weighted by the roots of their numbers."""
    outputs, targets = outputs_of(layers=2), make_targets((3, 2))
    criterion = criterion_of()
    got = criterion(outputs, targets)['d0.loss_ddf']
    student, teacher = (layer.extra['corners'].flatten(0, 1) / 5 for layer in outputs.layers)
    divergence = torch.nn.functional.kl_div(
        student.log_softmax(-1), teacher.softmax(-1), reduction='none'
    ).sum(-1)
    weight = outputs.layers[-1].logits.sigmoid().amax(-1).flatten()
    matched = torch.zeros(16, dtype=torch.bool)
    for image, (query, target) in enumerate(criterion.match(outputs, targets)['d0.']):
        pair = outputs.layers[0].boxes[image, query], targets.boxes[image][target]
        weight[image * 8 + query] = elementwise_iou(*map(cxcywh_to_xyxy, pair))
        matched[image * 8 + query] = True
    loss = 25 * divergence * weight[:, None]
    roots = [(4.0 * kind.sum()).sqrt() for kind in (matched, ~matched)]
    expected = (loss[matched].mean() * roots[0] + loss[~matched].mean() * roots[1]) / sum(roots)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('counts', [(0, 0), (3, 0)])
def test_batches_without_objects(counts: tuple[int, int]) -> None:
    outputs = outputs_of()
    losses = criterion_of(union=('loss_bbox', 'loss_fgl'))(outputs, make_targets(counts))
    terms = [value for name, value in losses.items() if 'loss' in name]
    assert all(value.isfinite() for value in terms)
    sum(terms).backward()
    assert all(layer.extra['corners'].grad is not None for layer in outputs.layers)


# ---- union ----------------------------------------------------------------------------------------


def matches_of(query: list[list[int]], target: list[list[int]], counts: tuple[int, ...]) -> Matches:
    """Pairs of 2 images with 6 queries and 2 objects each, numbered over both."""
    found = torch.tensor(query), torch.tensor(target)
    host = tuple(x.numpy() for x in found)
    return Matches(*found, counts, counts, 6, 2, on_host=host)


def source_of() -> Source:
    targets = make_targets((2, 2))
    return Source(
        'layer', ('',), torch.zeros(1, 2, 6, 5), torch.zeros(1, 2, 6, 4), targets, Branch(6)
    )


def test_union_keeps_the_most_frequent_object_of_a_query() -> None:
    first = matches_of([[1, 4, 6, 9], [1, 4, 6, 9]], [[0, 1, 2, 3], [1, 0, 2, 3]], (2, 2))
    second = matches_of([[1, 5, 7, 9]], [[0, 1, 2, 3]], (2, 2))
    third = matches_of([[2, 4, 6, 9]], [[0, 1, 3, 2]], (2, 2))
    united = unite([source_of()] * 3, [first, second, third])
    query, target = (x[0].tolist() for x in (united.query, united.target))
    assert dict(zip(query, target)) == {1: 0, 2: 0, 4: 1, 5: 1, 6: 2, 7: 2, 9: 3}
    assert query == sorted(query)
    assert united.counts == (4, 3)


def test_terms_of_the_union_share_pairs_and_their_number() -> None:
    outputs, targets = outputs_of(), make_targets((3, 2))
    alone, shared = criterion_of(), criterion_of(union=('loss_bbox',))
    before, after = alone(outputs, targets), shared(outputs, targets)
    assert torch.equal(before['loss_cls'], after['loss_cls'])
    pairs = shared.match(outputs, targets)['union']
    number = sum(len(query) for query, _ in pairs)
    distance = sum(
        (outputs.layers[1].boxes[image, query] - targets.boxes[image][target]).abs().sum()
        for image, (query, target) in enumerate(pairs)
    )
    torch.testing.assert_close(after['d1.loss_bbox'], 5 * distance / number)
    assert 'union' not in alone.match(outputs, targets)


def test_union_is_refused_where_it_has_no_meaning() -> None:
    with pytest.raises(ValueError, match=r'criterion\.union'):
        make_criterion(union=('loss_nothing',))
    outputs = outputs_of()
    tensors = outputs.tensors() | {'enc_logits': random(2, 20, 5), 'enc_boxes': boxes(2, 20)}
    with pytest.raises(ValueError, match='selected_only'):
        make_criterion(union=('loss_bbox',))(tensors, make_targets((3, 2)))


def test_matchability_aware_loss() -> None:
    """q^gamma as the target with weight 1; p^gamma as the weight of all else."""
    outputs, targets = outputs_of(layers=1), make_targets((3, 2))
    criterion = make_criterion(loss_cls=MatchabilityAwareClassLoss(gamma=1.5))
    got = criterion(outputs, targets)['loss_cls']
    logits = outputs.layers[0].logits
    goal, weight = torch.zeros_like(logits), logits.detach().sigmoid() ** 1.5
    for image, (query, target) in enumerate(criterion.match(outputs, targets)['']):
        pair = outputs.layers[0].boxes[image, query], targets.boxes[image][target]
        quality = elementwise_iou(*map(cxcywh_to_xyxy, pair)).detach()
        goal[image, query, targets.labels[image][target]] = quality**1.5
        weight[image, query, targets.labels[image][target]] = 1.0
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, goal, weight, reduction='sum'
    )
    torch.testing.assert_close(got, expected / 5)
    varifocal = make_criterion(loss_cls=VarifocalClassLoss())(outputs, targets)['loss_cls']
    assert varifocal < got

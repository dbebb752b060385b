"""Pairs of the queries of branches and objects, and what losses are divided by."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from branch_cases import CONTRASTIVE, HYBRID, build, denoised, every_branch, outputs_of, total
from criterion_cases import make_boxes, make_criterion, make_outputs, make_targets
from torch import Tensor
from toy import QUERIES

from mmdetr_plugin.structures import Branch, Outputs, Pairs, Prediction, Targets

# ---- pairs ---------------------------------------------------------------------------------------


def test_noised_queries_are_paired_with_their_objects() -> None:
    model = build([CONTRASTIVE])
    outputs, targets = outputs_of(model, (0, 1, 2), (3,), ())
    first, second, third = model.criterion.match(outputs, targets)['dn_']
    # Groups of 3 positives and 3 negatives.
    assert [x.tolist() for x in first] == [[0, 1, 2, 6, 7, 8], [0, 1, 2, 0, 1, 2]]
    assert [x.tolist() for x in second] == [[0, 6], [0, 0]]
    assert [x.tolist() for x in third] == [[], []]


def test_one_to_many_queries_find_every_object_several_times() -> None:
    model = build([HYBRID])
    outputs, targets = outputs_of(model, (0, 1), (2,))
    _, many = outputs.branches
    assert [x.tolist() for x in many.targets.labels] == [[0, 2, 0, 2], [1, 1]]
    for repeated, boxes in zip(many.targets.boxes, targets.boxes, strict=True):
        assert torch.equal(repeated, torch.cat((boxes, boxes)))
    matches = model.criterion.match(outputs, targets)
    assert [len(query) for query, _ in matches['']] == [2, 1]
    for (query, target), count in zip(matches['many_'], (2, 1), strict=True):
        assert len(set(query.tolist())) == 2 * count
        assert query.max() < HYBRID['num_many']
        assert sorted(target.tolist()) == list(range(2 * count))


@pytest.mark.parametrize('kind', ['focal', 'softmax'])
def test_groups_are_matched_as_if_each_were_alone(kind: str) -> None:
    criterion, targets = make_criterion(kind), make_targets((3, 0, 9, 1))
    tensors = make_outputs(images=4, queries=21, columns=5 + (kind == 'softmax'))
    outputs = replace(Outputs.of(tensors), branches=(Branch(21, groups=3),))
    together = criterion.match(outputs, targets)
    losses = criterion(outputs, targets)
    summed = dict.fromkeys(losses, 0)
    for group in range(3):
        rows = slice(7 * group, 7 * group + 7)
        alone = {key: value[:, :, rows] for key, value in tensors.items()}
        for prefix, images in criterion.match(alone, targets).items():
            for (query, target), (all_queries, all_targets) in zip(images, together[prefix]):
                inside = (all_queries >= rows.start) & (all_queries < rows.stop)
                assert (all_queries[inside] - rows.start).tolist() == query.tolist()
                assert all_targets[inside].tolist() == target.tolist()
        for key, value in criterion(alone, targets).items():
            summed[key] = summed[key] + value
    for key in ('loss_bbox', 'd0.loss_iou', *(['loss_cls'] if kind == 'focal' else [])):
        torch.testing.assert_close(losses[key], summed[key] / 3)  # objects are counted per group


@every_branch
def test_more_objects_than_queries(branches: list[dict]) -> None:
    model = build(branches)
    outputs, targets = outputs_of(model, (0, 1, 2, 3, 4, 5), (0,))
    matches = model.criterion.match(outputs, targets)
    groups = next(b.groups for b in outputs.branches if not b.prefix)
    assert [len(query) for query, _ in matches['']] == [groups * QUERIES, groups]
    if 'many_' in matches:
        assert [len(query) for query, _ in matches['many_']] == [HYBRID['num_many'], 2]
    if 'dn_' in matches:  # nothing is matched there: every object has its queries
        assert [len(query) for query, _ in matches['dn_']] == [2 * 6, 2 * 1]


# ---- losses --------------------------------------------------------------------------------------


def known_pairs(
    normalizer: str, trained: Tensor | None, copies: int = 2
) -> tuple[Outputs, Targets]:
    """Five queries with known pairs before seven that are matched; images of 2 and 1 objects."""
    generator = torch.Generator().manual_seed(2)
    layers = tuple(
        Prediction(
            torch.randn(2, 12, 5, generator=generator).requires_grad_(),
            make_boxes(2, 12, generator=generator).requires_grad_(),
        )
        for _ in range(2)
    )
    pairs = Pairs(torch.tensor([0, 1, 2, 3, 5, 7]), torch.tensor([0, 1, 0, 1, 2, 2]), (4, 2))
    known = Branch(
        5, 'dn_', pairs=pairs, trained=trained, normalizer=normalizer, copies=copies, weight=0.5
    )
    return Outputs(layers, branches=(known, Branch(7))), make_targets((2, 1))


UNTRAINED = torch.tensor([[True, False, True, True, True], [False, True, True, True, True]])
"""The second pair of the first image and the first of the second one are not trained."""


@pytest.mark.parametrize(
    ('normalizer', 'trained', 'expected'),
    [
        ('objects', None, 6),  # 2 x 2 + 2 x 1 copies
        ('detection', None, 2 * 3),  # 3 objects, twice
        ('process', None, 6),
        ('objects', UNTRAINED, 4),
        ('detection', UNTRAINED, 2 * 3),
        ('process', UNTRAINED, 4),
    ],
)
def test_what_losses_are_divided_by(normalizer: str, trained: Tensor | None, expected: int) -> None:
    outputs, targets = known_pairs(normalizer, trained)
    losses = make_criterion()(outputs, targets)
    images = [(0, [0, 1, 2, 3], [0, 1, 0, 1]), (1, [0, 2], [0, 0])]
    for prefix, layer in (('d0.', outputs.layers[0]), ('', outputs.layers[1])):
        distance = 0
        for image, queries, objects in images:
            for query, number in zip(queries, objects, strict=True):
                if trained is None or trained[image, query]:
                    box = targets.boxes[image][number]
                    distance += (layer.boxes[image, query] - box).abs().sum()
        # The criterion's weight of the term is 5, that of the branch 0.5.
        torch.testing.assert_close(losses[f'{prefix}dn_loss_bbox'], 0.5 * 5 * distance / expected)


def test_the_detection_normalizer_counts_the_objects_of_detection() -> None:
    """Whatever the number of pairs is."""
    (few, targets), (many, _) = (known_pairs('detection', None, copies) for copies in (1, 3))
    one, three = (make_criterion()(outputs, targets) for outputs in (few, many))
    for key in one:
        ratio = 3 if 'dn_loss' in key else 1
        torch.testing.assert_close(one[key], ratio * three[key])


@pytest.mark.parametrize('kind', ['focal', 'softmax'])
def test_queries_that_are_not_trained_get_no_gradient(kind: str) -> None:
    outputs, targets = known_pairs('process', UNTRAINED)
    if kind == 'softmax':
        layers = [replace(p, logits=torch.randn(2, 12, 6).requires_grad_()) for p in outputs.layers]
        outputs = replace(outputs, layers=tuple(layers))
    total(make_criterion(kind)(outputs, targets)).backward()
    paired = torch.tensor([[1, 1, 1, 1, 0], [1, 0, 1, 0, 0]]).bool()
    for layer in outputs.layers:
        assert torch.equal(layer.logits.grad[:, :5].any(-1), UNTRAINED)
        assert torch.equal(layer.boxes.grad[:, :5].any(-1), UNTRAINED & paired)


@denoised
def test_padding_is_trained_as_background_where_asked(branches: list[dict]) -> None:
    counts = []
    for padding in (False, True):
        outputs, _ = outputs_of(build([dict(*branches, train_padding=padding)]), (0, 1, 6), (2,))
        counts.append(outputs.branches[0].trained.sum(1).tolist())
    parts = 2 * (1 + ('contrastive' in branches[0]))
    # The box without a width never is; the second image has two places without an object.
    assert counts == [[2 * parts, parts], [2 * parts, 3 * parts]]

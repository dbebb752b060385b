"""Noised queries: their layout, and what given random numbers make of the objects."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from branch_cases import CLASSES, PLAIN, batch, build, denoised, own_noise, places
from criterion_cases import make_targets
from toy import QUERIES, SIZE, make

from mmdetr_plugin.queries.noise import NoiseDraws, NoiseLayout, noised_centres, noised_corners
from mmdetr_plugin.structures import Targets


def targets_of(*objects: Sequence[int]) -> Targets:
    return Targets.from_samples(batch(*objects)[1], CLASSES)


def test_layout() -> None:
    """Group after group: positives, then negatives, each as long as the fullest image has objects."""
    layout = NoiseLayout(targets_of((0, 1), (2,)), groups=2, negatives=True)
    assert (layout.slots, layout.size) == (2, 8)
    assert layout.group.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert layout.is_negative.int().tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert layout.copies(torch.tensor([[5, 6], [7, 8]])).tolist() == [[5, 6] * 4, [7, 8] * 4]
    pairs = layout.pairs()
    assert pairs.query.tolist() == [0, 1, 4, 5, 8 + 0, 8 + 4]
    assert pairs.target.tolist() == [0, 1, 0, 1, 2 + 0, 2 + 0]
    assert pairs.counts == (4, 2)


def test_layout_without_negatives_and_without_objects() -> None:
    layout = NoiseLayout(targets_of((0, 1), ()), groups=3, negatives=False)
    assert layout.group.tolist() == [0, 0, 1, 1, 2, 2]
    assert not layout.is_negative.any()
    assert layout.pairs().query.tolist() == [0, 1, 2, 3, 4, 5]
    assert layout.pairs().counts == (6, 0)
    for negatives in (False, True):
        empty = NoiseLayout(targets_of((), ()), groups=3, negatives=negatives)
        assert empty.size == len(empty.group) == len(empty.pairs().query) == 0


@pytest.mark.parametrize(('counts', 'groups'), [((4, 2), 5), ((30,), 1), ((), 20), ((7,), 2)])
def test_number_of_groups(counts: tuple[int, ...], groups: int) -> None:
    """As many as give ``num_denoising`` noised objects to the fullest image, at least one."""
    source = make(queries=places(), branches=[dict(PLAIN, groups=None, num_denoising=20)]).queries
    targets = make_targets(counts or (0,))
    assert source.layout(targets).groups == groups


def draws(*box: float, sign: Sequence[float] = (1, 1, 1, 1)) -> NoiseDraws:
    """Of one query of one image."""
    numbers = (torch.tensor(x, dtype=torch.float64).view(1, 1, -1) for x in (sign, box))
    return NoiseDraws(torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.long), *numbers)


BOX = torch.tensor([[[0.5, 0.4, 0.2, 0.1]]], dtype=torch.float64)


def test_noise_of_centres() -> None:
    """DN-DETR, 4.2: |dx| < l w / 2, |dy| < l h / 2; w and h lie in [(1 - l) w, (1 + l) w]."""
    u = (0.75, 0.25, 1.0, 0.0)
    expected = [
        0.5 + (2 * 0.75 - 1) * 0.4 * 0.2 / 2,
        0.4 + (2 * 0.25 - 1) * 0.4 * 0.1 / 2,
        (1 + 0.4) * 0.2,
        (1 - 0.4) * 0.1,
    ]
    got = noised_centres(BOX, draws(*u), 0.4)
    torch.testing.assert_close(got[0, 0], torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(noised_centres(BOX, draws(0.5, 0.5, 0.5, 0.5), 0.4), BOX)
    assert noised_centres(BOX, draws(1, 1, 1, 1), 10.0).max() == 1  # it stays in the image


@pytest.mark.parametrize('negative', [False, True])
def test_noise_of_corners(negative: bool) -> None:
    """DINO, 3.3: corners move by up to l times half the size, those of negatives by l to 2 l."""
    u, sign = (0.75, 0.25, 0.5, 1.0), (1, 0, 0, 1)
    left, top, right, bottom = 0.4, 0.35, 0.6, 0.45
    u = [x + negative for x in u]
    left, right = left + u[0] * 0.4 * 0.2 / 2, right - u[2] * 0.4 * 0.2 / 2
    top, bottom = top - u[1] * 0.4 * 0.1 / 2, bottom + u[3] * 0.4 * 0.1 / 2
    expected = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    given = draws(0.75, 0.25, 0.5, 1.0, sign=sign)
    got = noised_corners(BOX, given, 0.4, torch.tensor([negative]))
    torch.testing.assert_close(got[0, 0], torch.tensor(expected, dtype=torch.float64))


@denoised
def test_noised_queries(branches: list[dict]) -> None:
    """References, labels and empty places of the queries that the decoder starts from."""
    model = build(branches)
    source = model.queries
    images, samples = batch((0, 1), (2,))
    targets = Targets.from_samples(samples, CLASSES)
    memory = model.embed(model.extract_feat(images), samples, SIZE)
    with own_noise(model):
        state, _ = source(memory, model.head, targets)
        layout = NoiseLayout(targets, 2, source.contrastive)
        given = source.draw(layout)
    number = layout.size
    boxes = layout.copies(targets.padded_boxes)
    if source.contrastive:
        noised = noised_corners(boxes, given, 0.4, layout.is_negative)
    else:
        noised = noised_centres(boxes, given, 0.4)
    present = layout.copies(targets.is_present)
    place = state.ref.unit()[:, :number]
    torch.testing.assert_close(place[present], noised.clamp(1e-3, 1)[present], rtol=0, atol=2e-3)
    assert (place[~present] == 0.5).all()
    labels = layout.copies(targets.padded_labels)
    replaced = given.label < 0.2
    assert 0 < replaced[present].sum() < present.sum()
    labels[replaced] = given.new_label[replaced]
    content = state.content[:, :number]
    torch.testing.assert_close(content[present], source.labels.weight[labels[present]])
    assert not content[~present].any()
    torch.testing.assert_close(
        state.content[:, number:],
        (source.queries.content.weight + source.labels.weight[-1]).expand(2, -1, -1),
    )


def test_an_indicator_tells_noised_queries() -> None:
    """The last channel is 1 for them and 0 for the others (DN-DETR)."""
    model = build([dict(PLAIN, indicator=True)])
    with torch.no_grad():
        model.queries.queries.content.weight[:, -1] = 0
    images, samples = batch((0, 1), (2, 3))
    memory = model.embed(model.extract_feat(images), samples, SIZE)
    state, _ = model.queries(memory, model.head, Targets.from_samples(samples, CLASSES))
    assert (state.content[..., -1] == torch.tensor([1.0] * 4 + [0.0] * QUERIES)).all()


def test_random_numbers_cover_their_ranges() -> None:
    torch.manual_seed(0)
    made = NoiseDraws.random(4, 500, CLASSES, torch.device('cpu'))
    for uniform in (made.label, made.box):
        assert 0 <= uniform.min() < 0.01 < 0.99 < uniform.max() < 1
        assert abs(uniform.mean() - 0.5) < 0.03
    assert made.sign.unique().tolist() == [0, 1]
    assert made.new_label.unique().tolist() == [0, 1, 2]

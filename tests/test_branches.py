"""Branches of training queries: denoising, one-to-many copies, groups, and their nesting.

Who attends to whom, what the noise makes of given random numbers, which pairs are known and what the
losses are divided by is compared with tables and formulas that are written out here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from criterion_cases import make_boxes, make_criterion, make_outputs, make_targets
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor
from toy import QUERIES, SIZE, Places, make

from mmdetr_plugin.detector import DETR
from mmdetr_plugin.heads import Head
from mmdetr_plugin.queries import DenoisingQueries
from mmdetr_plugin.queries.base import Made
from mmdetr_plugin.queries.noise import NoiseDraws, NoiseLayout, noised_centres, noised_corners
from mmdetr_plugin.structures import (
    Branch,
    Memory,
    Outputs,
    Pairs,
    Prediction,
    Reference,
    State,
    Targets,
)

CLASSES = 3


def places(number: int = QUERIES) -> dict:
    return dict(type=Places, num_queries=number)


PLAIN = dict(type='DenoisingQueries', groups=2, unknown=True)
CONTRASTIVE = dict(
    type='DenoisingQueries', groups=2, contrastive=True, normalizer='detection', unknown=True
)
HYBRID = dict(type='HybridQueries', num_many=5, repeats=2)
SHARED = dict(type='GroupQueries', groups=2)
SEPARATE = dict(type='GroupQueries', groups=2, separate=True)
BRANCHES = {
    'plain': [PLAIN],
    'contrastive': [CONTRASTIVE],
    'hybrid': [HYBRID],
    'shared': [SHARED],
    'separate': [SEPARATE],
    'hybrid, denoised': [HYBRID, CONTRASTIVE],
    'groups, denoised': [SHARED, PLAIN],
    'separate groups, denoised': [SEPARATE, CONTRASTIVE],
    'twice denoised': [PLAIN, dict(CONTRASTIVE, prefix='cdn_')],
}
every_branch = pytest.mark.parametrize('branches', BRANCHES.values(), ids=BRANCHES)
denoised = pytest.mark.parametrize('branches', [[PLAIN], [CONTRASTIVE]], ids=['plain', 'contr.'])

BOXES = torch.tensor(
    [
        [4.0, 4, 20, 20],
        [10.0, 8, 40, 30],
        [24.0, 2, 46, 14],
        [2.0, 16, 12, 30],
        [30.0, 18, 44, 28],
        [16.0, 10, 28, 26],
    ]
)
LABELS = torch.tensor([0, 2, 1, 1, 0, 2])


def batch(*objects: Sequence[int]) -> tuple[Tensor, list[DetDataSample]]:
    """Images of 32 x 48 pixels, each with the objects of these numbers; 6 is a box without a width."""
    torch.manual_seed(1)
    images = torch.randn(len(objects), 3, *SIZE)
    boxes = torch.cat((BOXES, torch.tensor([[5.0, 5, 5, 20]])))
    labels = torch.cat((LABELS, torch.tensor([1])))
    samples = []
    for i, numbers in enumerate(objects):
        sample = DetDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE, img_id=i))
        index = torch.tensor(numbers, dtype=torch.long)
        sample.gt_instances = InstanceData(bboxes=boxes[index], labels=labels[index])
        samples.append(sample)
    return images, samples


@contextmanager
def own_noise(model: DETR) -> Iterator[None]:
    """Every object has random numbers of its own, wherever in the batch it stands.

    They are told apart by label and box, and differ between groups and between positives and negatives.
    """

    def draw(layout: NoiseLayout) -> NoiseDraws:
        batch, size = len(layout.targets.counts), layout.size
        draws = NoiseDraws(
            torch.ones(batch, size),
            torch.zeros(batch, size, dtype=torch.long),
            torch.ones(batch, size, 4),
            torch.full((batch, size, 4), 0.5),
        )
        generator = torch.Generator()
        for image, boxes in enumerate(layout.targets.boxes):
            for query in range(size):
                slot, part = query % layout.slots, query // layout.slots
                if slot < len(boxes):
                    generator.manual_seed(int(1e4 * boxes[slot].sum()) + 31 * part)
                    draws.label[image, query] = torch.rand((), generator=generator)
                    draws.new_label[image, query] = torch.randint(CLASSES, (), generator=generator)
                    draws.sign[image, query] = torch.randint(2, (4,), generator=generator).float()
                    draws.box[image, query] = torch.rand(4, generator=generator)
        return draws

    sources = [part for part in model.modules() if isinstance(part, DenoisingQueries)]
    for source in sources:
        source.draw = draw
    try:
        yield
    finally:
        for source in sources:
            del source.draw


def build(branches: Sequence[dict], number: int = QUERIES, **parts: object) -> DETR:
    return make(queries=places(number), branches=branches, **parts)


def losses_of(model: DETR, *objects: Sequence[int]) -> dict[str, Tensor]:
    with own_noise(model):
        return model.loss(*batch(*objects))


def outputs_of(model: DETR, *objects: Sequence[int]) -> tuple[Outputs, Targets]:
    images, samples = batch(*objects)
    targets = Targets.from_samples(samples, CLASSES)
    with own_noise(model):
        return model.run(images, samples, targets), targets


def total(losses: dict[str, Tensor]) -> Tensor:
    return sum(value for key, value in losses.items() if 'loss' in key)


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(got) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=1e-4, atol=1e-5, msg=key)


# ---- who attends to whom -------------------------------------------------------------------------

TABLES = {
    # 2 groups x 2 objects, 3 queries
    'plain': """
        11.. 111
        11.. 111
        ..11 111
        ..11 111

        .... 111
        .... 111
        .... 111
    """,
    # 2 groups x (2 positives, 2 negatives), 3 queries
    'contrastive': """
        1111 .... 111
        1111 .... 111
        1111 .... 111
        1111 .... 111
        .... 1111 111
        .... 1111 111
        .... 1111 111
        .... 1111 111

        .... .... 111
        .... .... 111
        .... .... 111
    """,
    # 3 queries, 5 of one to many
    'hybrid': """
        111 .....
        111 .....
        111 .....

        ... 11111
        ... 11111
        ... 11111
        ... 11111
        ... 11111
    """,
    # 2 groups x 3 queries
    'shared': """
        111 ...
        111 ...
        111 ...

        ... 111
        ... 111
        ... 111
    """,
    # 2 groups x (2 positives, 2 negatives), 3 queries, 5 of one to many
    'hybrid, denoised': """
        1111 .... 111 .....
        1111 .... 111 .....
        1111 .... 111 .....
        1111 .... 111 .....
        .... 1111 111 .....
        .... 1111 111 .....
        .... 1111 111 .....
        .... 1111 111 .....

        .... .... 111 .....
        .... .... 111 .....
        .... .... 111 .....

        .... .... ... 11111
        .... .... ... 11111
        .... .... ... 11111
        .... .... ... 11111
        .... .... ... 11111
    """,
    # 2 groups x 2 objects, 2 groups x 3 queries
    'groups, denoised': """
        11.. 111 ...
        11.. 111 ...
        ..11 111 ...
        ..11 111 ...

        .... 111 ...
        .... 111 ...
        .... 111 ...

        .... ... 111
        .... ... 111
        .... ... 111
    """,
}
TABLES['separate'] = TABLES['shared']


@pytest.mark.parametrize('name', TABLES)
def test_who_attends_to_whom(name: str) -> None:
    """Row n: the queries whose content changes what self-attention gives to query n."""
    model = build(BRANCHES[name], number=3)
    images, samples = batch((0, 1), (2,))
    targets = Targets.from_samples(samples, CLASSES)
    memory = model.embed(model.extract_feat(images), samples, SIZE)
    state, _ = model.queries(memory, model.head, targets)
    content = torch.randn(state.content.shape, requires_grad=True)
    state = replace(state, content=content)
    given = model.decoder.layers[0].attend('self_attn', state, memory, 0)
    for image in range(2):  # an image with fewer objects too: its empty places are queries
        rows = []
        for n in range(content.shape[1]):
            (gradient,) = torch.autograd.grad(given[image, n].sum(), content, retain_graph=True)
            assert not gradient[1 - image].any()
            rows.append(''.join('.1'[int(seen)] for seen in gradient[image].any(-1)))
        assert rows == TABLES[name].replace(' ', '').split()


@every_branch
def test_detecting_queries_do_not_notice_the_others(branches: list[dict]) -> None:
    model = build(branches)
    images, samples = batch((0, 1, 2), (3,))
    expected = model(images, samples, mode='tensor')
    outputs, _ = outputs_of(model, (0, 1, 2), (3,))
    assert outputs.layers[0].logits.shape[1] > QUERIES
    assert_equal(outputs.tensors(), expected)


# ---- denoising: the layout, and what given random numbers make of the objects ---------------------


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


# ---- batches of every kind -----------------------------------------------------------------------

BATCHES = {
    'unequal': [(0, 1, 2), (3,)],
    'one image without objects': [(), (0, 1)],
    'no objects': [(), ()],
    'one object': [(4,)],
    'more objects than queries': [(0, 1, 2, 3, 4, 5), (0,)],
    'a box without a width': [(0, 6), (6,)],
}


@every_branch
def test_every_batch_trains_the_same_parts(branches: list[dict]) -> None:
    """The same losses by name, all finite; every parameter has a gradient."""
    model = build(branches).train()
    names = set(losses_of(model, (0,), (1,)))
    for objects in BATCHES.values():
        model.zero_grad()
        losses = model.loss(*batch(*objects))  # with noise of chance
        assert set(losses) == names
        assert all(value.isfinite() for value in losses.values())
        total(losses).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@every_branch
def test_names_of_losses(branches: list[dict]) -> None:
    kinds = {branch['type'] for branch in branches}
    prefixes = {branch.get('prefix', 'dn_') for branch in branches if 'Denoising' in branch['type']}
    prefixes |= {'', *(['many_'] if 'HybridQueries' in kinds else [])}
    terms = ('loss_cls', 'loss_bbox', 'loss_iou')
    expected = {f'{layer}{p}{term}' for layer in ('', 'd0.') for p in prefixes for term in terms}
    logged = {'class_error', 'cardinality_error', 'unmatched_gt'}
    assert set(losses_of(build(branches), (0, 1), (2,))) == expected | logged


@every_branch
def test_results_hold_the_detecting_queries_alone(branches: list[dict]) -> None:
    model = build(branches)
    images, samples = batch((0, 1), (2,))
    made = []
    for mode in (False, True):
        model.train(mode)
        made.append(model(images, samples, mode='tensor'))
        for key in ('pred_logits', 'pred_boxes'):
            assert made[-1][key].shape[:3] == (2, 2, QUERIES)
    assert_equal(*made)
    for sample in model.eval().predict(images, copy.deepcopy(samples)):
        assert len(sample.pred_instances) == QUERIES * CLASSES


@every_branch
def test_the_order_of_images_means_nothing(branches: list[dict]) -> None:
    model = build(branches)
    objects, order = [(0, 1, 2), (3,), ()], [2, 0, 1]
    images, samples = batch(*objects)
    targets = Targets.from_samples(samples, CLASSES)
    with own_noise(model):
        expected = model.run(images, samples, targets)
        mixed = [samples[i] for i in order]
        got = model.run(images[order], mixed, Targets.from_samples(mixed, CLASSES))
        losses = model.loss(images, samples), model.loss(images[order], mixed)
    assert [replace(b, targets=None, pairs=None, trained=None) for b in got.branches] == [
        replace(b, targets=None, pairs=None, trained=None) for b in expected.branches
    ]
    for ours, theirs in zip(got.layers, expected.layers, strict=True):
        torch.testing.assert_close(ours.logits, theirs.logits[order], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.boxes, theirs.boxes[order], rtol=1e-4, atol=1e-5)
    assert_equal(*losses)


@every_branch
def test_the_order_of_objects_means_nothing(branches: list[dict]) -> None:
    """Where their random numbers follow them."""
    model = build(branches)
    expected = losses_of(model, (0, 1, 2), (3, 4))
    assert_equal(losses_of(model, (2, 0, 1), (4, 3)), expected)


@every_branch
def test_boxes_without_an_area_are_as_if_they_were_not_there(branches: list[dict]) -> None:
    """In a decoder whose queries do not see each other, for a noised box without a width is seen."""
    layer = dict(self_attn=None, cross_attn=dict(type='CrossAttention', num_heads=2))
    decoder = dict(type='Decoder', num_layers=2, layer=dict(layer, ffn=None))
    model = build(branches, decoder=decoder)
    assert_equal(losses_of(model, (0, 1, 6), (2,)), losses_of(model, (0, 1), (2,)))
    assert_equal(losses_of(model, (6,), (6,)), losses_of(model, (), ()))


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


# ---- what cannot be combined ---------------------------------------------------------------------


def test_sources_that_cannot_be_split_are_refused() -> None:
    patterns = dict(type='LearnedBoxes', num_queries=QUERIES, num_patterns=2)
    for branch in (HYBRID, SHARED):
        with pytest.raises(ValueError, match='its own row in the parameters, got LearnedBoxes'):
            make(queries=patterns, branches=[branch])
        with pytest.raises(ValueError, match=r"'model.branches.0' must state num_queries, got"):
            make(queries=places(), branches=[PLAIN, branch])


def test_noised_queries_need_the_position_that_the_others_have() -> None:
    model = make(branches=[PLAIN])
    with pytest.raises(ValueError, match=r'got none; set queries.position_from_box=True'):
        losses_of(model, (0,), (1,))
    model = make(branches=[dict(PLAIN, position_from_box=True)])
    total(losses_of(model, (0,), (1,))).backward()
    assert all(p.grad is not None for p in model.queries.parameters())


def test_branches_of_separate_groups_are_refused() -> None:
    """A group has no training queries of its own; they would be taken for detecting ones."""
    for branch in (PLAIN, HYBRID):
        model = make(queries=places(), branches=[branch, SEPARATE])
        with pytest.raises(ValueError, match=r'list GroupQueries first'):
            losses_of(model, (0,), (1,))


def test_branches_need_names_of_their_own() -> None:
    """Else the losses of one would stand in the place of the other's."""
    model = make(queries=places(), branches=[PLAIN, PLAIN])
    with pytest.raises(ValueError, match=r"its own prefix, got \['dn_', 'dn_', ''\]"):
        losses_of(model, (0,), (1,))


class Nearsighted(Places):
    """Queries that read three tokens alone and keep a tensor for the layers."""

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        state, _ = super().forward(memory, head)
        read = torch.arange(memory.tokens.shape[1]) < 3
        state = self.place(state.ref, state.content, memory)
        return replace(state, memory_mask=read.expand(1, 1, 1, -1)), None

    def place(self, ref: Reference, content: Tensor, memory: Memory) -> State:
        return State(content, ref=ref).keep(first=content)


def test_what_a_source_says_of_its_queries_is_not_lost() -> None:
    model = make(queries=dict(type=Nearsighted, num_queries=QUERIES), branches=[PLAIN])
    images, samples = batch((0, 1), (2,))
    memory = model.embed(model.extract_feat(images), samples, SIZE)
    targets = Targets.from_samples(samples, CLASSES)
    state, _ = model.queries(memory, model.head, targets)
    seen = state.memory_mask.expand(2, 1, -1, -1)
    assert seen.shape[2] == 4 + QUERIES
    assert seen[:, :, :4].all()  # noised queries read the whole memory
    assert seen[:, :, 4:, :3].all()
    assert not seen[:, :, 4:, 3:].any()
    torch.testing.assert_close(state.carry['first'][:, :4], state.content[:, :4])
    with own_noise(model):
        total(model.loss(images, samples)).backward()


class Forgetful(Nearsighted):
    """Keeps a tensor for its own queries alone."""

    def place(self, ref: Reference, content: Tensor, memory: Memory) -> State:
        state = State(content, ref=ref)
        return state if content.shape[1] != QUERIES else state.keep(first=content)


def test_noised_queries_need_what_the_others_keep() -> None:
    model = make(queries=dict(type=Forgetful, num_queries=QUERIES), branches=[PLAIN])
    with pytest.raises(
        ValueError, match=r"agree in State.carry\['first'\], got NoneType and Tensor"
    ):
        losses_of(model, (0,), (1,))

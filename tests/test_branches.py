"""Branches of training queries: denoising, one-to-many copies, groups, and their nesting.

Who attends to whom is compared with tables that are written out here.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from branch_cases import (
    BRANCHES,
    CLASSES,
    HYBRID,
    PLAIN,
    SEPARATE,
    SHARED,
    assert_equal,
    batch,
    build,
    every_branch,
    losses_of,
    outputs_of,
    own_noise,
    places,
    total,
)
from torch import Tensor
from toy import QUERIES, SIZE, Places, make

from mmdetr_plugin.heads import Head
from mmdetr_plugin.queries.base import Made
from mmdetr_plugin.structures import Memory, Reference, State, Targets

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

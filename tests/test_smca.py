"""SMCA: Gaussians that guide cross-attention, levels with shares, the convolutional encoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from memories import STRIDE, make_memory
from torch import nn
from torch.nn import functional as F

from mmdetr_plugin.attention import (
    ConditionalCrossAttention,
    CrossAttention,
    GaussianPrior,
    LevelConvolution,
)
from mmdetr_plugin.structures import LogitReference, State
from mmdetr_plugin.transformer.initialization import init_transformer_
from mmdetr_plugin.transformer.memory_adapter import FinestLevelDownsampler

WIDTH, HEADS, QUERIES = 16, 4, 5
ONE = ((6, 9),)
TWO = ((6, 9), (3, 5))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def make_prior(**arguments: object) -> GaussianPrior:
    prior = GaussianPrior(WIDTH, HEADS, **{'strides': (STRIDE,), **arguments})
    init_transformer_(prior)
    for layer in (prior.offsets, prior.steepness, prior.shares):
        if layer is not None:
            nn.init.normal_(layer.weight, std=0.3)
            nn.init.normal_(layer.bias)
    return prior.double()


def make_op(kind: type = CrossAttention, **prior: object) -> CrossAttention:
    op = kind(WIDTH, HEADS, dropout=0.0, prior=make_prior(**prior) if prior else None)
    init_transformer_(op.out_proj)
    return op.double()


def make_state(**fields: object) -> State:
    content, pos = torch.randn(2, 2, QUERIES, WIDTH).double()
    return State(content, pos, **fields)


# ---- the Gaussians ------------------------------------------------------------------------------


def test_gaussians_are_those_of_the_paper():
    memory, prior = make_memory(TWO, WIDTH), make_prior(strides=(STRIDE, 2 * STRIDE))
    state = prior.prepare(make_state(), memory, 0)
    bias, shares = prior(state, memory)
    assert shares.shape == (2, QUERIES, 2)
    torch.testing.assert_close(shares.sum(-1), torch.ones(2, QUERIES).double())
    x = prior.norm(state.content + state.pos)
    offsets, steepness = (
        layer(x).view(2, QUERIES, 2, HEADS, 2) for layer in (prior.offsets, prior.steepness)
    )
    assert torch.equal(state.ref.values, prior.reference(x))
    for image, query, level, head, row, column in [
        (0, 1, 0, 3, 2, 5), (1, 4, 0, 0, 0, 8), (0, 0, 1, 2, 2, 4), (1, 2, 1, 1, 1, 0),
    ]:  # fmt: skip
        stride = STRIDE * 2**level
        centre = state.ref.unit()[image, query] * memory.image_wh[image] / stride
        centre = centre + offsets[image, query, level, head]
        distance = torch.tensor((column, row)) - centre
        square = (distance * steepness[image, query, level, head]).square().sum()
        index = memory.starts()[level] + row * TWO[level][1] + column
        expected = -square / 8 * stride / 32
        torch.testing.assert_close(bias[image, head, query, index], expected)


def test_every_head_peaks_at_its_centre():
    memory, prior = make_memory(ONE, WIDTH), make_prior()
    nn.init.zeros_(prior.offsets.weight)
    with torch.no_grad():
        prior.offsets.bias.copy_(torch.tensor([0, 0, 2, 0, 0, -1, 1, 1]).double())
    state = prior.prepare(make_state(), memory, 0)
    centre = torch.tensor((4, 2)).double() * STRIDE / memory.image_wh[0]  # cell (4, 2)
    state = replace(state, ref=LogitReference(centre.logit().expand(2, QUERIES, 2)))
    bias, shares = prior(state, memory)
    assert shares is None
    peaks = bias[0].argmax(-1)  # (heads, N)
    for head, (x, y) in enumerate([(4, 2), (6, 2), (4, 1), (5, 3)]):
        assert (peaks[head] == y * ONE[0][1] + x).all()
    assert bias.amax(-1)[0].abs().max() < 1e-9
    assert (bias <= 0).all()


def test_heads_begin_with_one_gaussian_each_around_the_point():
    prior = GaussianPrior(WIDTH, HEADS)
    init_transformer_(prior)
    assert not prior.steepness.weight.any()
    assert (prior.steepness.bias == 1).all()


def test_the_reference_is_made_in_layer_0_and_stays():
    memory = make_memory(ONE, WIDTH)
    first, second = make_prior(layer=0), make_prior(layer=1)
    assert second.reference is None
    state = first.prepare(make_state(), memory, 0)
    later = second.prepare(replace(state, content=torch.randn_like(state.content)), memory, 1)
    assert later.ref is state.ref
    assert later.carry['gaussian_offsets'].shape == (2, QUERIES, 2 * HEADS)


def test_boxes_and_points_of_the_queries_serve_as_references():
    memory, prior = make_memory(ONE, WIDTH), make_prior(make_reference=False)
    assert prior.reference is None
    ref = LogitReference(torch.randn(2, QUERIES, 4).double())
    state = make_state()
    boxes, points = (
        prior(prior.prepare(replace(state, ref=r), memory, 0), memory)[0]
        for r in (ref, ref.points())
    )
    torch.testing.assert_close(boxes, points)


def test_prior_says_what_it_needs():
    memory, prior = make_memory(TWO, WIDTH), make_prior()
    with pytest.raises(ValueError, match=r'each of the 2 feature levels, got \(8,\); change prior'):
        prior(prior.prepare(make_state(), memory, 0), memory)
    prior, memory = make_prior(make_reference=False), make_memory(ONE, WIDTH)
    with pytest.raises(ValueError, match=r'needs a reference, got State\.ref=None; set'):
        prior(prior.prepare(make_state(), memory, 0), memory)


# ---- attention that a prior guides --------------------------------------------------------------


def weighed(op, state, memory):
    """Attention with its weights (B, heads, N, S) written out."""
    q, k, v = op.project(state.with_pos(), memory.tokens + memory.pos, memory.tokens)
    bias, shares = op.prior(state, memory)
    scores = q @ k.mT / (WIDTH // HEADS) ** 0.5 + bias
    scores = scores.masked_fill(~memory.key_mask, -torch.inf)
    sizes = [h * w for h, w in memory.shapes]
    weights = [part.softmax(-1) for part in scores.split(sizes, -1)]
    if shares is not None:
        weights = [w * shares[:, None, :, i, None] for i, w in enumerate(weights)]
    weights = torch.cat(weights, -1)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    return op.out_proj((weights @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize(
    ('shapes', 'strides'), [(ONE, (STRIDE,)), (TWO, (STRIDE, 2 * STRIDE))], ids=['one', 'two']
)
def test_bias_and_shares_weigh_the_attention(shapes, strides):
    memory, op = make_memory(shapes, WIDTH), make_op(strides=strides)
    state = op.prepare(make_state(), memory, 0)
    torch.testing.assert_close(op(state, memory, 0), weighed(op, state, memory))


def test_a_flat_prior_changes_nothing():
    memory, op = make_memory(ONE, WIDTH), make_op(strides=(STRIDE,))
    nn.init.zeros_(op.prior.steepness.weight)
    nn.init.zeros_(op.prior.steepness.bias)
    state = op.prepare(make_state(), memory, 0)
    expected = op(state, memory, 0)
    op.prior = None
    torch.testing.assert_close(op(state, memory, 0), expected)


def test_conditional_attention_takes_the_prior_too():
    memory, op = make_memory(ONE, WIDTH), make_op(ConditionalCrossAttention, make_reference=False)
    ref = LogitReference(torch.randn(2, QUERIES, 2).double())
    spatial = torch.randn(2, QUERIES, WIDTH).double()
    state = op.prepare(make_state(ref=ref, spatial=spatial), memory, 0)
    assert state.ref is ref
    guided = op(state, memory, 0)
    prior, op.prior = op.prior, None
    plain = op(state, memory, 0)
    assert (guided - plain).abs().max() > 1e-2
    nn.init.zeros_(prior.steepness.weight)
    nn.init.zeros_(prior.steepness.bias)
    op.prior = prior
    state = op.prepare(state, memory, 0)
    torch.testing.assert_close(op(state, memory, 0), plain)


def test_an_image_does_not_see_its_neighbour_in_the_batch():
    memory, op = make_memory(TWO, WIDTH), make_op(strides=(STRIDE, 2 * STRIDE))
    state = make_state()
    together = op(op.prepare(state, memory, 0), memory, 0)
    fields = ('tokens', 'pos', 'mask', 'valid_ratios', 'image_wh')
    single = replace(memory, **{name: getattr(memory, name)[1:] for name in fields})
    alone = op.prepare(State(state.content[1:], state.pos[1:]), single, 0)
    torch.testing.assert_close(op(alone, single, 0), together[1:])


# ---- the convolutional encoder and what the decoder reads of it ---------------------------------


def test_levels_take_in_their_neighbours():
    op = LevelConvolution(WIDTH, num_levels=3, kernel_size=3)
    shapes = ((7, 10), (4, 5), (2, 3))
    memory = make_memory(shapes, WIDTH)
    memory = replace(memory, tokens=memory.tokens.float(), pos=memory.pos.float())
    out = op(State(memory.tokens, memory.pos), memory, 0)
    maps = replace(memory, tokens=memory.tokens + memory.pos).maps()
    own = [conv(op.enter(x)) for conv, x in zip(op.levels, maps)]
    for i, got in enumerate(replace(memory, tokens=out).maps()):
        expected = own[i]
        if i > 0:
            down = op.to_coarser
            expected = expected + F.conv2d(
                own[i - 1], down.weight, down.bias, stride=2, padding=1, groups=WIDTH
            )
        if i < 2:
            finer = F.interpolate(
                op.to_finer(own[i + 1]), shapes[i], mode='bilinear', align_corners=True
            )
            expected = expected + finer
        torch.testing.assert_close(got, op.leave(expected))


@pytest.mark.parametrize('shapes', [((7, 10), (3, 5)), ((7, 10),), ((4, 4), (2, 2), (1, 1))])
def test_levels_must_be_halves(shapes):
    op, memory = LevelConvolution(WIDTH, num_levels=2).double(), make_memory(shapes, WIDTH)
    with pytest.raises(ValueError, match='needs num_levels=2 feature levels, each half of the one'):
        op(State(memory.tokens, memory.pos), memory, 0)


def test_kernels_have_a_middle():
    with pytest.raises(ValueError, match='kernel_size must be odd, got 4; change it by one'):
        LevelConvolution(WIDTH, kernel_size=4)


def test_the_finest_level_takes_the_size_of_the_next():
    adapter, memory = FinestLevelDownsampler(WIDTH).double(), make_memory(TWO, WIDTH)
    memory = replace(memory, axis_pos=tuple((torch.zeros(2, w, 1),) * 2 for _, w in TWO))
    adapted = adapter(memory)
    assert adapted.shapes == (TWO[1], TWO[1])
    first, second = adapted.level(0), adapted.level(1)
    torch.testing.assert_close(first.maps()[0], adapter.conv(memory.maps()[0]))
    assert torch.equal(second.tokens, memory.level(1).tokens)
    for name in ('pos', 'mask', 'valid_ratios'):
        assert torch.equal(getattr(first, name), getattr(memory.level(1), name)), name
    assert adapted.axis_pos == memory.axis_pos[1:] * 2


@pytest.mark.parametrize('shapes', [((7, 10),), ((7, 10), (4, 6))])
def test_there_must_be_a_level_of_half_the_size(shapes):
    with pytest.raises(ValueError, match='second feature level must be half of the first'):
        FinestLevelDownsampler(WIDTH).double()(make_memory(shapes, WIDTH))


# ---- the extra class column ---------------------------------------------------------------------


def test_evaluators_do_not_see_the_class_without_a_name():
    model = tiny.build('smca_detr_r50')
    images, samples = tiny.batch()
    for sample in samples:  # images of files may have any values
        sample.set_metainfo({'img_path': 'image.jpg'})
    data = {'inputs': list(images.unbind()), 'data_samples': samples}
    with torch.no_grad():
        ranked = model.predict(images, samples, rescale=False)
        counts = [(s.pred_instances.labels < tiny.NUM_CLASSES).sum() for s in ranked]
        assert any(s.pred_instances.labels.max() == tiny.NUM_CLASSES for s in ranked)
        for step in (model.val_step, model.test_step):
            results = step(data)
            assert [len(s.pred_instances) for s in results] == counts
            assert all(s.pred_instances.labels.max() < tiny.NUM_CLASSES for s in results)

"""Semantic-aligned attention, its Gaussian and what SAM-DETR needs beside it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmdetr_plugin.attention import SemanticAlignedAttention
from mmdetr_plugin.ops.gaussian import log_gaussian
from mmdetr_plugin.positions.maps import SinePosition
from mmdetr_plugin.positions.queries import SineQueryPosition
from mmdetr_plugin.structures import LogitReference, Memory, State
from mmdetr_plugin.transformer.initialization import init_transformer_

WIDTH, HEADS = 16, 4
SHAPES = ((6, 9), (3, 5))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def make_memory(shapes: tuple = SHAPES[:1]) -> Memory:
    """Two images, the second one padded by a third to the right and a third below."""
    masks = [torch.zeros(2, h, w, dtype=torch.bool) for h, w in shapes]
    for mask, (h, w) in zip(masks, shapes):
        mask[1, h * 2 // 3 :] = mask[1, :, w * 2 // 3 :] = True
    ratios = [
        torch.stack(((~m[:, 0]).double().mean(1), (~m[:, :, 0]).double().mean(1)), -1)
        for m in masks
    ]
    size = sum(h * w for h, w in shapes)
    return Memory(
        tokens=torch.randn(2, size, WIDTH).double(),
        pos=torch.randn(2, size, WIDTH).double(),
        mask=torch.cat([m.flatten(1) for m in masks], 1),
        shapes=shapes,
        valid_ratios=torch.stack(ratios, 1),
        image_wh=torch.tensor([[288.0, 192.0], [192.0, 128.0]]),
    )


def make_state(num_queries: int = 3) -> State:
    ref = torch.randn(2, num_queries, 4).double().requires_grad_()
    return State(torch.randn(2, num_queries, WIDTH).double(), ref=LogitReference(ref))


def make_op(**arguments: object) -> SemanticAlignedAttention:
    op = SemanticAlignedAttention(WIDTH, HEADS, dropout=0.0, **arguments).double()
    init_transformer_(op)
    return op


# ---- against loops over queries, heads and bins -------------------------------------------------


def read(feature_map: Tensor, x: float, y: float, repeat: bool) -> Tensor:
    """Bilinear value (C,) of a map (C, H, W) whose first cell has its centre at (0, 0).

    Outside it is zero; with ``repeat`` the cell next to the border still has the border's value.
    """
    _, height, width = feature_map.shape
    value = feature_map.new_zeros(len(feature_map))
    if repeat:
        if not (-1 <= x <= width and -1 <= y <= height):
            return value
        x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    for column in (math.floor(x), math.floor(x) + 1):
        for row in (math.floor(y), math.floor(y) + 1):
            if 0 <= column < width and 0 <= row < height:
                weight = (1 - abs(x - column)) * (1 - abs(y - row))
                value = value + weight * feature_map[:, row, column]
    return value


def naive_region(feature_map: Tensor, box: Tensor, ratio: Tensor, size: int) -> Tensor:
    """Average of each of size x size bins of a box, read at ceil(bin) places along each side."""
    _, height, width = feature_map.shape
    cx, cy, w, h = box.tolist()
    scale = (width * ratio[0].item(), height * ratio[1].item())
    left, top = (cx - w / 2) * scale[0] - 0.5, (cy - h / 2) * scale[1] - 0.5
    bins = (w * scale[0] / size, h * scale[1] / size)
    number = [math.ceil(b) for b in bins]
    region = feature_map.new_zeros(len(feature_map), size, size)
    for row in range(size):
        for column in range(size):
            for i in range(number[1]):
                for j in range(number[0]):
                    x = left + (column + (j + 0.5) / number[0]) * bins[0]
                    y = top + (row + (i + 0.5) / number[1]) * bins[1]
                    region[:, row, column] += read(feature_map, x, y, repeat=True)
    return region / (number[0] * number[1])


def naive_code(x: float, channels: int) -> Tensor:
    angles = [2 * math.pi * x / 10000 ** (2 * i / channels) for i in range(channels // 2)]
    return torch.tensor([f(a) for a in angles for f in (math.sin, math.cos)]).double()


def naive(op: SemanticAlignedAttention, state: State, memory: Memory) -> Tensor:
    """The op for one query and one head at a time, on a memory of one level."""
    height, width = memory.shapes[0]
    out = torch.zeros_like(state.content)
    keys = op.key_content(memory.tokens) + op.key_place(memory.pos)
    values = op.value(memory.tokens)
    depth = WIDTH // HEADS
    for b in range(len(out)):
        feature_map, ratio = memory.maps()[0][b], memory.valid_ratios[b, 0]
        for n in range(out.shape[1]):
            box = state.ref.unit()[b, n]
            region = naive_region(feature_map, box, ratio, op.region_size)
            numbers = op.points.mlp(op.points.conv(region[None]).relu().flatten(1))[0]
            gates = [
                gate(state.content[b, n]).sigmoid().view(HEADS, WIDTH)
                for gate in (op.content_gate, op.place_gate)
            ]
            for head in range(HEADS):
                dx, dy = numbers[2 * head : 2 * head + 2].tanh()
                place = [(d.item() + 1) * op.region_size / 2 - 0.5 for d in (dx, dy)]
                feature = read(region, *place, repeat=False)
                x, y = box[0] + dx * box[2] / 2, box[1] + dy * box[3] / 2
                code = torch.cat([naive_code(p.item(), WIDTH // 2) for p in (y, x)])
                query = op.query_content(feature * gates[0][head])
                query = query + op.query_place(code * gates[1][head])
                scores = keys[b] @ query / math.sqrt(WIDTH)
                if op.gaussian:
                    sx, sy = numbers[2 * HEADS + 2 * head : 2 * HEADS + 2 * head + 2]
                    for s in range(height * width):
                        row, column = divmod(s, width)
                        gap_x = x * width * ratio[0] - (column + 0.5)
                        gap_y = y * height * ratio[1] - (row + 0.5)
                        scores[s] -= (gap_x**2 * sx**2 + gap_y**2 * sy**2) / 8
                weights = scores.masked_fill(memory.mask[b], -torch.inf).softmax(0)
                part = slice(head * depth, (head + 1) * depth)
                out[b, n, part] = weights @ values[b, :, part]
    return op.out_proj(out)


@pytest.mark.parametrize('gaussian', [False, True])
def test_equals_loops_over_queries_and_heads(gaussian: bool) -> None:
    op, state, memory = make_op(gaussian=gaussian, region_size=3), make_state(), make_memory()
    with torch.no_grad():
        torch.testing.assert_close(op(state, memory, 0), naive(op, state, memory))


def test_log_gaussian_equals_formula() -> None:
    centres, steepness = torch.randn(2, 3, 2), torch.randn(2, 3, 2)
    got = log_gaussian(centres, steepness, (4, 5)).unflatten(-1, (4, 5))
    for row, column in ((0, 0), (3, 1), (2, 4)):
        gap = torch.tensor([column, row]) - centres
        expected = -(gap.square() * steepness.square()).sum(-1) / 8
        torch.testing.assert_close(got[..., row, column], expected)


# ---- regions ------------------------------------------------------------------------------------


def test_regions_of_a_slope_are_the_places_of_their_bins() -> None:
    memory = make_memory(((40, 60),))
    x, y = torch.meshgrid(torch.arange(60.0), torch.arange(40.0), indexing='xy')
    slopes = torch.stack((x, y), -1).flatten(0, 1).double() + 0.5
    memory = replace(memory, tokens=slopes.repeat(2, 1, WIDTH // 2))
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.3]]).double().expand(2, 1, 4)
    regions = make_op().pool(memory, boxes)
    for image, extent in enumerate(((60, 40), (40, 26))):  # of the unpadded part
        places = (
            0.5 + torch.stack((torch.linspace(-3, 3, 7) * 0.4, torch.linspace(-3, 3, 7) * 0.3)) / 7
        )
        torch.testing.assert_close(regions[image, 0, 2], places[0].double() * extent[0])
        torch.testing.assert_close(regions[image, 1, :, 5], places[1].double() * extent[1])


def test_regions_read_padding_that_attention_masks() -> None:
    """The published dependence on padding: a box over the edge of the image sees beyond it."""
    op, memory = make_op(), make_memory()
    other = replace(memory, tokens=memory.tokens.masked_fill(memory.mask[..., None], 3.0))
    ref = torch.tensor([[0.4, 0.4, 0.3, 0.3], [0.9, 0.9, 0.6, 0.6]]).double().logit()
    state = State(torch.randn(2, 2, WIDTH).double(), ref=LogitReference(ref.expand(2, -1, -1)))
    with torch.no_grad():
        before, after = op(state, memory, 0), op(state, other, 0)
    torch.testing.assert_close(before[0], after[0])  # an image without padding
    torch.testing.assert_close(before[1, 0], after[1, 0])  # a box inside
    assert (before[1, 1] - after[1, 1]).abs().max() > 1e-3


def test_borders_and_codes_carry_no_gradient() -> None:
    state = make_state()
    make_op()(state, make_memory(), 0).sum().backward()
    assert state.ref.values.grad is None


def test_gaussian_learns_from_its_initial_weights() -> None:
    """A steepness that starts at zero would keep a gradient of zero."""
    op, state = make_op(gaussian=True), make_state()
    op(state, make_memory(), 0).square().sum().backward()
    steepness = op.points.mlp[-1].weight.grad[2 * HEADS :]
    assert steepness.abs().amax(1).min() > 0
    assert state.ref.values.grad.abs().max() > 0
    assert not op.points.mlp[-1].bias.any()


# ---- queries and levels -------------------------------------------------------------------------


@pytest.mark.parametrize('gaussian', [False, True])
def test_order_of_queries_does_not_matter(gaussian: bool) -> None:
    op, state, memory = make_op(gaussian=gaussian), make_state(), make_memory()
    order = torch.tensor([2, 0, 1])
    shuffled = state.map(lambda x: x[:, order])
    with torch.no_grad():
        torch.testing.assert_close(op(shuffled, memory, 0), op(state, memory, 0)[:, order])


def test_layers_read_their_level() -> None:
    op, state, memory = make_op(levels=(1, 0)), make_state(), make_memory(SHAPES)
    with torch.no_grad():
        for layer, level in ((0, 1), (1, 0), (5, 0)):
            alone = make_op()
            alone.load_state_dict(op.state_dict())
            expected = alone(state, memory.level(level), 0)
            torch.testing.assert_close(op(state, memory, layer), expected)


def test_levels_must_exist() -> None:
    op = make_op(levels=(2, 1, 0))
    with pytest.raises(ValueError, match=r'levels must be below .* \(2\), got \(2, 1, 0\); make'):
        op(make_state(), make_memory(SHAPES), 0)


def test_a_reference_that_is_not_finite_stays_with_its_query() -> None:
    """The criterion reports non-finite predictions; RoIAlign must not end the program before."""
    op, state, memory = make_op(), make_state(), make_memory()
    ref = state.ref.map(lambda values: values.detach().clone())
    ref.values[1, 2] = torch.nan
    with torch.no_grad():
        expected, got = op(state, memory, 0), op(replace(state, ref=ref), memory, 0)
    assert got[1, 2].isnan().all()
    torch.testing.assert_close(got.flatten(0, 1)[:5], expected.flatten(0, 1)[:5])


@pytest.mark.parametrize('coordinates', [0, 2])
def test_references_must_be_boxes(coordinates: int) -> None:
    state = make_state()
    state = replace(state, ref=state.ref.points() if coordinates else None)
    with pytest.raises(ValueError, match=f'4 coordinates, got {coordinates}; use queries that'):
        make_op()(state, make_memory(), 0)


def test_query_position_is_a_code_of_the_centre_without_gradient() -> None:
    state = make_state()
    pos = SineQueryPosition(WIDTH)(state, make_memory(), 0).pos
    x, y = state.ref.unit()[0, 0, :2].tolist()
    expected = torch.cat([naive_code(p, WIDTH // 2) for p in (y, x)])
    torch.testing.assert_close(pos[0, 0], expected)
    assert not pos.requires_grad


# ---- position codes -----------------------------------------------------------------------------


def test_shifted_extent_changes_only_what_is_all_padding() -> None:
    mask = make_memory().masks()[0]
    plain = SinePosition(WIDTH, offset=-0.5)([mask])[0]
    shifted = SinePosition(WIDTH, offset=-0.5, shifted_extent=True)([mask])[0]
    torch.testing.assert_close(plain[~mask], shifted[~mask])
    assert (plain - shifted)[mask].abs().max() > 0.1


def test_there_must_be_a_level() -> None:
    with pytest.raises(ValueError, match='levels must name at least one feature level, got none'):
        SemanticAlignedAttention(8, 2, levels=())

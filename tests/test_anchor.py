"""Anchor DETR: row-column attention, codes of points and cells, anchors with patterns."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import tiny
import torch
from memories import make_memory, padding

from mmdetr_plugin.attention import RowColumnCrossAttention, RowColumnSelfAttention
from mmdetr_plugin.positions.maps import AnchorPosition, PositionEncoding, SinePosition
from mmdetr_plugin.queries import AnchorQueries
from mmdetr_plugin.structures import Memory, State

WIDTH, HEADS = 16, 4
SHAPES = ((5, 7),)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def position() -> AnchorPosition:
    return AnchorPosition(WIDTH).double()


@pytest.fixture
def memory(position: AnchorPosition) -> Memory:
    return make_memory(SHAPES, WIDTH, position)


def make_op(kind: type) -> RowColumnCrossAttention | RowColumnSelfAttention:
    op = kind(WIDTH, HEADS, dropout=0.0).double()
    torch.nn.init.normal_(op.in_proj_bias)
    return op


# ---- row-column attention -----------------------------------------------------------------------


def dense(op: torch.nn.Module, x_query, y_query, memory: Memory):
    """Row-column attention with a weight for every cell: for each head, the outer product."""
    height, width = memory.shapes[0]
    mask = memory.masks()[0]
    keys = memory.tokens.unflatten(1, (height, width))
    x_code, y_code = memory.axis_pos[0]
    inputs = (x_query, y_query, keys + x_code[:, None], keys + y_code[:, :, None], keys)
    projected = [
        (x @ w.T + b).unflatten(-1, (HEADS, -1))
        for x, w, b in zip(inputs, op.in_proj_weight.chunk(5), op.in_proj_bias.chunk(5))
    ]
    qx, qy, kx, ky, v = projected
    along_x = torch.einsum('bnhd,bwhd->bhnw', qx, kx.mean(1)) / (WIDTH // HEADS) ** 0.5
    along_y = torch.einsum('bnhd,bihd->bhni', qy, ky.mean(2)) / (WIDTH // HEADS) ** 0.5
    along_x = along_x.masked_fill(mask[:, None, None, 0], -torch.inf).softmax(-1)
    along_y = along_y.masked_fill(mask[:, None, None, :, 0], -torch.inf).softmax(-1)
    weights = along_y[..., :, None] * along_x[..., None, :]  # (B, heads, N, H, W)
    assert (weights.sum((3, 4)) - 1).abs().max() < 1e-9
    assert not (weights * mask[:, None, None]).any()
    return op.out_proj(torch.einsum('bhniw,biwhd->bnhd', weights, v).flatten(2))


@pytest.mark.parametrize('shape', [(5, 7), (7, 5), (4, 4), (1, 6)])
def test_cross_attention_is_the_product_of_rows_and_columns(position, shape):
    memory, op = make_memory((shape,), WIDTH, position), make_op(RowColumnCrossAttention)
    state = State(torch.randn(2, 6, WIDTH).double(), spatial=torch.randn(2, 6, 2 * WIDTH).double())
    x_code, y_code = state.spatial.chunk(2, -1)
    expected = dense(op, state.content + x_code, state.content + y_code, memory)
    torch.testing.assert_close(op(state, memory, 0), expected)


def test_self_attention_queries_with_the_codes_of_the_cells(memory):
    op = make_op(RowColumnSelfAttention)
    cells = memory.tokens.unflatten(1, SHAPES[0])
    x_code, y_code = memory.axis_pos[0]
    x_query, y_query = cells + x_code[:, None], cells + y_code[:, :, None]
    expected = dense(op, x_query.flatten(1, 2), y_query.flatten(1, 2), memory)
    torch.testing.assert_close(op(State(memory.tokens, memory.pos), memory, 0), expected)


def test_unknown_padding_is_as_no_padding(memory):
    op, state = make_op(RowColumnSelfAttention), State(memory.tokens, memory.pos)
    whole = replace(memory, mask=torch.zeros_like(memory.mask))
    expected = op(state, whole, 0)
    torch.testing.assert_close(op(state, replace(whole, padded=False), 0), expected)


def test_padding_counts_in_the_keys_and_not_in_the_values(memory):
    op = make_op(RowColumnSelfAttention)
    with torch.no_grad():
        before = op(State(memory.tokens, memory.pos), memory, 0)
        tokens = memory.tokens + memory.mask[..., None] * torch.randn_like(memory.tokens)
        after = op(State(tokens, memory.pos), replace(memory, tokens=tokens), 0)
        assert (after - before)[1][~memory.mask[1]].abs().max() > 1e-3  # as published
        op.in_proj_weight[2 * WIDTH : 4 * WIDTH] = 0  # keys alike: a plain mean of the values
        before = op(State(memory.tokens, memory.pos), memory, 0)
        after = op(State(tokens, memory.pos), replace(memory, tokens=tokens), 0)
    torch.testing.assert_close(after, before)


def test_two_dimensional_codes_serve_both_axes():
    memory, op = make_memory(SHAPES, WIDTH), make_op(RowColumnCrossAttention)
    state = State(torch.randn(2, 3, WIDTH).double(), torch.randn(2, 3, WIDTH).double())
    pos = memory.pos.unflatten(1, SHAPES[0])
    coded = replace(memory, axis_pos=((pos.mean(1), pos.mean(2)),))
    both = replace(state, spatial=state.pos.repeat(1, 1, 2))
    torch.testing.assert_close(op(state, memory, 0), op(both, coded, 0))


def test_row_column_attention_needs_one_level_and_codes_of_both_axes(memory):
    op = make_op(RowColumnCrossAttention)
    content = torch.randn(2, 3, WIDTH).double()
    with pytest.raises(ValueError, match='needs one feature level, got 2; let the neck give one'):
        op(State(content), make_memory(((4, 6), (2, 3)), WIDTH), 0)
    with pytest.raises(ValueError, match='codes of x and y side by side'):
        op(State(content, spatial=content), memory, 0)
    with pytest.raises(ValueError, match='codes of x and y side by side'):
        op(State(content, spatial=lambda content: content), memory, 0)


# ---- codes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'encoding', [AnchorPosition(WIDTH), SinePosition(WIDTH, offset=-0.5, eps=0.0)]
)
def test_cells_and_points_have_the_same_codes(encoding: PositionEncoding):
    mask = padding(((5, 7),))[0]
    rows, columns = (~mask[1, :, 0]).sum(), (~mask[1, 0]).sum()
    row, column = 2, 3
    point = torch.tensor([(column + 0.5) / columns, (row + 0.5) / rows])
    torch.testing.assert_close(encoding.grid(mask)[1, row, column], encoding.points(point))
    axes, codes = encoding.axes([mask]), encoding.point_axes(point)
    assert (axes is None) == (codes is None)
    if axes is not None:
        x_code, y_code = codes.chunk(2, -1)
        torch.testing.assert_close(axes[0][0][1, column], x_code)
        torch.testing.assert_close(axes[0][1][1, row], y_code)


def test_codes_of_cells_do_not_depend_on_padding(position):
    mask = padding(((5, 7),))[0]
    rows, columns = (~mask[1, :, 0]).sum(), (~mask[1, 0]).sum()
    alone = mask[1:, :rows, :columns]
    torch.testing.assert_close(position.grid(mask)[1:, :rows, :columns], position.grid(alone))


def test_an_encoding_says_what_it_must_define():
    with pytest.raises(TypeError, match=r'PositionEncoding must define points\(points\)'):
        PositionEncoding(WIDTH).points(torch.zeros(2))


# ---- queries ------------------------------------------------------------------------------------


def test_queries_are_ordered_pattern_by_pattern(position, memory):
    source = AnchorQueries(5, position, WIDTH, num_patterns=3).double()
    state, proposals = source(memory, None)
    assert proposals is None
    assert state.content.shape == (2, 15, WIDTH)
    for pattern in range(3):
        for point in range(5):
            query, place = 5 * pattern + point, source.points[point]
            assert torch.equal(state.content[1, query], source.patterns.weight[pattern])
            torch.testing.assert_close(state.ref.unit()[1, query], place, atol=2e-5, rtol=0.0)
            torch.testing.assert_close(state.pos[1, query], position.points(place))
            torch.testing.assert_close(state.spatial[1, query], position.point_axes(place))


def test_grid_of_anchors(position, memory):
    source = AnchorQueries(4, position, WIDTH, num_patterns=1, anchors='grid')
    expected = {(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)}
    assert set(map(tuple, source.points.tolist())) == expected
    assert set(source.state_dict()) == {'patterns.weight'}
    assert source(memory, None)[0].ref.values.shape == (2, 4, 2)


def test_anchors_must_be_known_and_a_grid_square(position):
    with pytest.raises(ValueError, match=r"anchors must be one of .* got 'random'; change it"):
        AnchorQueries(4, position, WIDTH, anchors='random')
    with pytest.raises(ValueError, match='square number of points, got 7; set num_queries=4'):
        AnchorQueries(7, position, WIDTH, anchors='grid')


def test_the_detector_has_one_position_encoding():
    model = tiny.build('anchor_detr_r50')
    assert [n for n, _ in model.named_modules() if n.endswith('plane')] == ['position.plane']
    twin = copy.deepcopy(model)
    assert twin.queries._position[0] is twin.position is not model.position


def test_plain_attention_has_no_axis_codes(memory):
    mask = torch.zeros(1, 2, 3, dtype=torch.bool)
    for idle in (False, True):
        position = AnchorPosition(WIDTH, axis_codes=False, unused_axis_codes=idle)
        assert position.axes([mask]) is None
        assert AnchorQueries(2, position, WIDTH)(memory, None)[0].spatial is None
        position.grid(mask).sum().backward()
        assert [n for n, p in position.named_parameters() if p.grad is None] == []
        line = [p for n, p in position.named_parameters() if n.startswith('line')]
        assert len(line) == 4 * idle
        assert not any(p.grad.any() for p in line)

"""What the papers took away or changed to see what it does, as arguments of the parts.

Those of Conditional DETR (forms and projections of the spatial query, reference points, DETR with
focal loss and with offset regression, schedules) are in test_conditional.py.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields, replace
from functools import lru_cache

import pytest
import tiny
import torch
from mmengine.config import Config
from torch import nn

from mmdetr_plugin.checkpoints import official_names
from mmdetr_plugin.positions.maps import LearnedPosition, SinePosition
from mmdetr_plugin.queries import LearnedQueries
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.testing import given_features

ALL_COSTS = ('ClassificationCost', 'BBoxL1Cost', 'IoUCost')
TERMS = ('loss_cls', 'loss_bbox', 'loss_iou')


load = lru_cache(tiny.load)


def shrunk(name: str, options: dict[str, object], **after: object) -> nn.Module:
    """A config with dotted ``options`` as on the command line, shrunk, then with ``after``."""
    cfg = deepcopy(load(name))
    cfg.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    cfg = Config({'model': tiny.shrink(cfg.model)})
    cfg.merge_from_dict({f'model.{key}': value for key, value in after.items()})
    torch.manual_seed(0)
    return tiny.randomise_(MODELS.build(cfg.model).eval())


def without_gradient(model: nn.Module) -> list[str]:
    """Trainable parameters that a training step does not reach; the gradients stay in place."""
    losses = model.loss(*tiny.batch())
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad.isfinite().all() for p in trained.values() if p.grad is not None)
    return [name for name, parameter in trained.items() if parameter.grad is None]


def parameters(options: dict[str, object]) -> float:
    """Trainable parameters of the whole DETR-R50 with options, in millions."""
    cfg = tiny.load('detr_r50')
    cfg.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    cfg.model.backbone.init_cfg = None
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    return sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6


# ---- DETR, table 2 and section 4.2: encoder layers, FFN ------------------------------------------


@pytest.mark.parametrize('number', [0, 3, 6, 12])
def test_number_of_encoder_layers(number: int) -> None:
    model = shrunk('detr_r50', {}, **{'encoder.num_layers': number})
    assert len(model.encoder.layers) == number
    assert without_gradient(model) == []


def test_no_encoder_layers_leave_the_memory_as_it_is() -> None:
    model = shrunk('detr_r50', {}, **{'encoder.num_layers': 0})
    images, samples = tiny.batch()
    memory = model.embed(model.extract_feat(images), samples, tiny.CANVAS)
    after = model.encoder(memory)
    assert all(getattr(after, f.name) is getattr(memory, f.name) for f in fields(memory))
    outputs = model(images, samples, mode='tensor')
    model.encoder = None  # what ``encoder=None`` gives
    again = model(images, samples, mode='tensor')
    assert all(torch.equal(again[key], value) for key, value in outputs.items())


def test_parameters_are_the_papers() -> None:
    """Table 2: 33.4 M without encoder; section 4.2: 28.7 M without FFN; 41.3 M with both."""
    without = {f'{part}.layer.ffn': None for part in ('encoder', 'decoder')}
    assert parameters({}) == pytest.approx(41.3, abs=0.05)
    assert parameters({'encoder.num_layers': 0}) == pytest.approx(33.4, abs=0.05)
    assert parameters(without) == pytest.approx(28.7, abs=0.05)


def test_no_ffn() -> None:
    model = shrunk('detr_r50', {'encoder.layer.ffn': None, 'decoder.layer.ffn': None})
    assert not any('ffn' in name for name, _ in model.named_parameters())
    assert without_gradient(model) == []


# ---- DETR, table 3: position codes ---------------------------------------------------------------

LEARNED = {'position.type': 'LearnedPosition'}
SPATIAL = {
    'none': {'position.at': 'none'},
    'sine at input': {'position.at': 'input'},
    'sine at attention': {},
    'sine at attention of the decoder': {'encoder.with_position': False},
    'learned at attention': LEARNED,
    'learned at input': {**LEARNED, 'position.at': 'input'},
}


@pytest.mark.parametrize('where', ['input', 'attention'])
@pytest.mark.parametrize('spatial', SPATIAL)
def test_every_row_of_table_3_learns(spatial: str, where: str) -> None:
    model = shrunk('detr_r50', {**SPATIAL[spatial], 'queries.at': where})
    assert without_gradient(model) == []


@pytest.mark.parametrize('spatial', SPATIAL)
def test_only_without_codes_the_map_is_a_set(spatial: str) -> None:
    """The boxes when the columns of the feature map change places."""
    model = shrunk('detr_r50', SPATIAL[spatial])
    images, _ = tiny.batch()
    boxes = []
    with torch.no_grad():
        maps = model.extract_feat(images)[0]
        for m in (maps, maps.roll(1, -1)):
            with given_features(model, (m,)):
                boxes.append(model.run(images).layers[-1].boxes)
    before, after = boxes
    change = (before - after).abs().max().item()
    assert (change < 1e-6) if spatial == 'none' else (change > 1e-5)


def test_codes_enter_where_they_are_told_to() -> None:
    tokens, codes = torch.randn(2, 1, 6, 8)
    nothing = torch.zeros_like(codes)
    expected = {
        'attention': (tokens, codes),
        'input': (tokens + codes, nothing),
        'none': (tokens, nothing),
    }
    for at, (first, second) in expected.items():
        got = SinePosition(8, at=at).join(tokens, codes)
        assert torch.equal(got[0], first) and torch.equal(got[1], second)


def test_encoder_without_codes() -> None:
    """The tokens are then a set to the encoder; what the decoder reads keeps its codes."""
    model = shrunk('detr_r50', {'encoder.with_position': False})
    images, samples = tiny.batch(sizes=(tiny.CANVAS, tiny.CANVAS))
    memory = model.embed(model.extract_feat(images), samples, tiny.CANVAS)
    with torch.no_grad():
        tokens = model.encoder(memory).tokens
        assert model.encoder(memory).pos is memory.pos
        moved = model.encoder(replace(memory, pos=memory.pos.flip(1))).tokens
    torch.testing.assert_close(moved, tokens)


def test_learned_codes() -> None:
    position = LearnedPosition(8, max_size=5)
    code = position.grid(torch.zeros(2, 3, 4, dtype=torch.bool))
    assert code.shape == (2, 3, 4, 8)
    torch.testing.assert_close(code[1, 2, 3, :4], position.columns.weight[3])
    torch.testing.assert_close(code[0, 2, 3, 4:], position.rows.weight[2])
    assert ((position.rows.weight >= 0) & (position.rows.weight < 1)).all()
    with pytest.raises(ValueError, match=r'codes for maps of 5 x 5 cells, got 3 x 6; raise'):
        position.grid(torch.zeros(1, 3, 6, dtype=torch.bool))
    names = official_names(shrunk('detr_r50', LEARNED), 'detr')
    assert names['position.rows.weight'] == ('backbone.1.row_embed.weight',)
    assert names['position.columns.weight'] == ('backbone.1.col_embed.weight',)


def test_queries_at_the_input_have_no_position() -> None:
    memory = shrunk('detr_r50', {}).embed((torch.zeros(2, tiny.WIDTH, 2, 3),), None, (64, 96))
    queries = LearnedQueries(4, tiny.WIDTH, at='input')
    state, _ = queries(memory, None)
    assert state.pos is None
    assert torch.equal(state.content[1], queries.embedding.weight)
    both = LearnedQueries(4, tiny.WIDTH, learned_content=True, at='input')
    pos, content = both.embedding.weight.chunk(2, -1)
    torch.testing.assert_close(both(memory, None)[0].content[0], pos + content)


def test_wrong_places() -> None:
    with pytest.raises(ValueError, match=r"position.at must be one of .* got 'layer'; change it"):
        SinePosition(8, at='layer')
    with pytest.raises(ValueError, match=r"level_embed must be 0 with at='none', got 2; set it"):
        SinePosition(8, 2, at='none')
    with pytest.raises(ValueError, match=r"LearnedPosition must be added somewhere, got at='none'"):
        LearnedPosition(8, at='none')
    with pytest.raises(ValueError, match=r"queries.at must be one of .* got 'none'; change it"):
        LearnedQueries(4, 8, at='none')
    scale = {'encoder.position_scale': True, 'encoder.with_position': False}
    with pytest.raises(ValueError, match='position_scale needs the position codes, got with_pos'):
        shrunk('detr_r50', scale)


# ---- DETR, table 4: losses -----------------------------------------------------------------------


@pytest.mark.parametrize('off', [*((term,) for term in TERMS), ('loss_bbox', 'loss_iou')])
def test_losses_can_be_switched_off(off: tuple[str, ...]) -> None:
    """What is left is as before, for the same matching; heads without a loss stand still."""
    expected = shrunk('detr_r50', {}).loss(*tiny.batch())
    model = shrunk('detr_r50', {f'criterion.{term}': None for term in off})
    got = model.loss(*tiny.batch())
    kept = {key for key in expected if not key.endswith(off)}
    assert set(got) == kept
    for key in kept:
        torch.testing.assert_close(got[key], expected[key])
    still = ()
    if 'loss_cls' in off:
        still = ('head.class_branches',)
    if len(off) == 2:
        still = ('head.box_branches',)
    assert all(name.startswith(still) for name in without_gradient(model))


@pytest.mark.parametrize('index', range(3))
def test_matching_costs_can_be_switched_off(index: int) -> None:
    """By weight 0 as on the command line, or by leaving the cost out of the list."""
    costs = tiny.load('detr_r50').model.criterion.assigner.match_costs
    assert tuple(cost.type for cost in costs) == ALL_COSTS
    key = 'criterion.assigner.match_costs'
    chosen = [{**cost, 'weight': 0.0} if i == index else cost for i, cost in enumerate(costs)]
    zero = shrunk('detr_r50', {key: chosen})
    left_out = shrunk('detr_r50', {key: [c for i, c in enumerate(costs) if i != index]})
    got, expected = zero.loss(*tiny.batch()), left_out.loss(*tiny.batch())
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value)


# ---- Deformable DETR, table 2: levels and points -------------------------------------------------


def deformable(levels: int, points: int) -> dict[str, object]:
    """Options of ``deformable_detr_r50``; the fourth level is a convolution of the last map."""
    options: dict[str, object] = {
        'num_levels': levels,
        'backbone.out_indices': (1, 2, 3)[-min(levels, 3) :],
    }
    for op in ('encoder.layer.self_attn', 'decoder.layer.cross_attn'):
        options[f'{op}.num_points'] = points
    return options


@pytest.mark.parametrize(
    ('levels', 'points'), [(1, 1), (1, 4), (2, 4), (3, 4), (4, 4), (4, 3), (4, 2), (4, 1)]
)
def test_levels_and_points(levels: int, points: int) -> None:
    model = shrunk('deformable_detr_r50', deformable(levels, points))
    images, samples = tiny.batch()
    memory = model.embed(model.extract_feat(images), samples, tiny.CANVAS)
    strides = [8, 16, 32, 64] if levels == 4 else [8, 16, 32][-levels:]
    assert memory.shapes == tuple((64 // stride, -(-96 // stride)) for stride in strides)
    op = model.decoder.layers[0].cross_attn
    assert op.attention_weights.out_features == op.num_heads * levels * points
    assert without_gradient(model) == []


def test_points_of_another_number_of_levels() -> None:
    options = {**deformable(2, 4), 'encoder.layer.self_attn.num_levels': 3}
    with pytest.raises(ValueError, match=r'built for num_levels=3, got 2 feature levels; make'):
        shrunk('deformable_detr_r50', options)(*tiny.batch(), mode='tensor')

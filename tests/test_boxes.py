"""Queries that are boxes: DAB-DETR and DAB-Deformable DETR."""

from __future__ import annotations

import math

import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmdetr_plugin.checkpoints import official_names
from mmdetr_plugin.ops.coordinates import sine_point_code
from mmdetr_plugin.positions.queries import BoxPosition, DeformableBoxPosition
from mmdetr_plugin.queries import LearnedBoxes
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.structures import LogitReference, Memory, State
from mmdetr_plugin.transformer.encoder import Encoder

WIDTH, BATCH, QUERIES = 16, 2, 5


@pytest.fixture
def memory() -> Memory:
    """One level of 2 x 4 cells, of which the second image fills one row and half of the columns."""
    mask = torch.zeros(BATCH, 2, 4, dtype=torch.bool)
    mask[1, 1:] = True
    mask[1, :, 2:] = True
    return Memory(
        tokens=torch.randn(BATCH, 8, WIDTH),
        pos=torch.randn(BATCH, 8, WIDTH),
        mask=mask.flatten(1),
        shapes=((2, 4),),
        valid_ratios=torch.tensor([[[1.0, 1.0]], [[0.5, 0.5]]]),
        image_wh=torch.full((BATCH, 2), 96.0),
    )


@pytest.fixture
def state() -> State:
    content = torch.randn(BATCH, QUERIES, WIDTH)
    return State(content, ref=LogitReference(torch.randn(BATCH, QUERIES, 4)))


# ---- positions -----------------------------------------------------------------------------------


def test_position_of_a_box(state: State, memory: Memory) -> None:
    """The position reads (y, x, w, h); the spatial query is the code of (y, x)."""
    position = BoxPosition(WIDTH, modulate=False)
    code = sine_point_code(state.ref.unit(), WIDTH // 2)
    for layer in (0, 1):
        made = position(state, memory, layer)
        torch.testing.assert_close(made.pos, position.position(code))
        factors = position.projection.mlp(state.content) if layer else 1.0
        torch.testing.assert_close(made.spatial, factors * code[..., :WIDTH])


def test_width_and_height_stretch_the_spatial_query(state: State, memory: Memory) -> None:
    position = BoxPosition(WIDTH)
    last = position.size.layers[-1]
    nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([0.2, 0.6]).logit())  # width, height
    code = sine_point_code(state.ref.unit(), WIDTH // 2)
    made = position(state, memory, 0).spatial
    width, height = state.ref.unit()[..., 2:].split(1, -1)
    y, x, _, _ = code.split(WIDTH // 2, -1)
    torch.testing.assert_close(made, torch.cat((y * 0.6 / height, x * 0.2 / width), -1))


def test_deformable_position_is_relative_to_the_padded_level(state: State, memory: Memory) -> None:
    position = DeformableBoxPosition(WIDTH)
    boxes = state.ref.unit() * torch.tensor([1.0, 0.5])[:, None, None]
    pos = position.position(sine_point_code(boxes, WIDTH // 2))
    torch.testing.assert_close(position(state, memory, 0).pos, pos)
    scaled = pos * position.projection.mlp(state.content)
    torch.testing.assert_close(position(state, memory, 1).pos, scaled)
    assert position(state, memory, 1).spatial is None


def test_points_are_no_boxes(state: State, memory: Memory) -> None:
    points = State(state.content, ref=state.ref.points())
    for position in (BoxPosition(WIDTH), DeformableBoxPosition(WIDTH)):
        with pytest.raises(ValueError, match='needs references with 4 coordinates, got 2; choose'):
            position(points, memory, 0)


def test_half_precision_references_are_coded_in_single(state: State, memory: Memory) -> None:
    half = State(state.content, ref=state.ref.map(torch.Tensor.bfloat16))
    single = State(state.content, ref=half.ref.map(torch.Tensor.float))
    position = BoxPosition(WIDTH)
    assert torch.equal(position(half, memory, 0).spatial, position(single, memory, 0).spatial)


def test_encoder_scales_positions_by_the_tokens(memory: Memory) -> None:
    layer = {'self_attn': {'type': 'SelfAttention', 'num_heads': 4}}
    torch.manual_seed(0)
    scaled = Encoder(2, layer, position_scale=True, embed_dims=WIDTH).eval()
    plain = Encoder(2, layer, embed_dims=WIDTH).eval()
    plain.load_state_dict(scaled.state_dict(), strict=False)
    last = scaled.position_scale.layers[-1]
    assert not torch.equal(scaled(memory).tokens, plain(memory).tokens)
    nn.init.zeros_(last.weight)
    nn.init.ones_(last.bias)
    torch.testing.assert_close(scaled(memory).tokens, plain(memory).tokens)
    assert torch.equal(scaled(memory).pos, memory.pos)  # what cross-attention reads is not scaled


# ---- queries -------------------------------------------------------------------------------------


def test_content_of_boxes(memory: Memory) -> None:
    plain, _ = LearnedBoxes(QUERIES, WIDTH)(memory, None)
    assert plain.content.shape == (BATCH, QUERIES, WIDTH)
    assert not plain.content.any()
    learned = LearnedBoxes(QUERIES, WIDTH, learned_content=True)
    state, _ = learned(memory, None)
    assert torch.equal(state.content[1], learned.content.weight)
    assert torch.equal(state.ref.values[1], learned.boxes.weight)


@pytest.mark.parametrize('learned', [False, True])
def test_patterns_come_one_after_the_other(memory: Memory, learned: bool) -> None:
    """Query pattern * num_queries + box."""
    queries = LearnedBoxes(QUERIES, WIDTH, learned_content=learned, num_patterns=3)
    state, _ = queries(memory, None)
    assert state.ref.values.shape == (BATCH, 3 * QUERIES, 4)
    for pattern in range(3):
        for box in range(QUERIES):
            index = pattern * QUERIES + box
            content = queries.patterns.weight[pattern]
            if learned:
                content = content + queries.content.weight[box]
            assert torch.equal(state.content[0, index], content)
            assert torch.equal(state.ref.values[0, index], queries.boxes.weight[box])


def test_fixed_centres_are_drawn_over_the_image() -> None:
    centres = LearnedBoxes(2000, WIDTH, fixed_xy=True).boxes.weight[:, :2]
    assert centres.abs().max() <= math.log(1000)
    quarters = torch.histc(centres.sigmoid(), 4, 0.0, 1.0) / centres.numel()
    assert (quarters - 0.25).abs().max() < 0.05


def test_training_leaves_fixed_centres_where_they_are() -> None:
    """Neither the gradient nor weight decay moves them; width and height learn."""
    cfg = tiny.load('dab_detr_dc5_r50_fixxy')
    cfg.optim_wrapper.optimizer.update(lr=0.1, weight_decay=0.5)
    network = tiny.build('dab_detr_dc5_r50_fixxy').train()
    boxes = network.queries.boxes.weight
    before = boxes.detach().clone()
    wrapper = build_optim_wrapper(network, cfg.optim_wrapper)
    for _ in range(2):
        losses = network.loss(*tiny.batch())
        wrapper.update_params(sum(v for k, v in losses.items() if 'loss' in k))
    assert torch.equal(boxes[:, :2], before[:, :2])
    assert (boxes[:, 2:] != before[:, 2:]).all()


# ---- whole models --------------------------------------------------------------------------------


def test_official_names_of_the_queries() -> None:
    expected = {
        'dab_detr_r50_3pat': {'refpoint_embed.weight', 'transformer.patterns.weight'},
        'dab_detr_dc5_r50_fixxy': {'refpoint_embed.weight'},
        'dab_deformable_detr_r50': {'refpoint_embed.weight', 'tgt_embed.weight'},
    }
    for name, names in expected.items():
        network = tiny.build(name)
        table = official_names(network, network.layout)
        got = {table[f'queries.{n}'][0] for n, _ in network.queries.named_parameters()}
        assert got == names
        assert network.queries.boxes.weight.requires_grad  # all of it, as published


@pytest.mark.parametrize('projection', ['identity', 'scalar', 'block'])
@pytest.mark.parametrize('name', ['dab_detr_r50', 'dab_deformable_detr_r50'])
def test_projections_of_box_positions(name: str, projection: str) -> None:
    cfg = Config({'model': tiny.shrink(tiny.load(name).model)})
    cfg.model.decoder.query_position.projection = projection
    network = MODELS.build(cfg.model)
    losses = network.loss(*tiny.batch())
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_published_settings() -> None:
    dab = tiny.load('dab_detr_r50')
    assert dab.model.dropout == 0.0
    assert dab.model.position.temperature == 20
    assert dab.model.head.eps == 1e-3
    assert dab.model.criterion.losses.loss_cls.loss_weight == 1.0
    assert dab.model.criterion.losses.loss_iou.eps == 1e-6
    assert dab.model.criterion.assigner.match_costs[0].weight == 2.0
    assert dab.model.postprocess.max_per_img == 300
    for name in ('dab_detr_r50', 'dab_detr_dc5_r101', 'dab_deformable_detr_r50'):
        cfg = tiny.load(name)
        assert cfg.optim_wrapper.optimizer.lr == 1e-4
        assert cfg.auto_scale_lr.base_batch_size == 16
        assert cfg.optim_wrapper.paramwise_cfg.custom_keys == {'backbone': {'lr_mult': 0.1}}
        assert cfg.train_cfg.max_epochs == 50

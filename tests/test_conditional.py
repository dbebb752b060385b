"""Conditional DETR: decoupled attention, the spatial query and its ablations, reference points."""

from __future__ import annotations

import math

import pytest
import tiny
import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmdetr_plugin.attention import ConditionalCrossAttention, DecoupledSelfAttention
from mmdetr_plugin.ops.coordinates import sine_point_code
from mmdetr_plugin.positions.queries import FORMS, PROJECTIONS, CodeProjection, ConditionalPosition
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.structures import LogitReference, Memory, State

WIDTH, HEADS, BATCH, QUERIES, CELLS = 16, 4, 2, 5, 6


@pytest.fixture
def memory() -> Memory:
    """Two by three cells; the last of the second image is padding."""
    mask = torch.zeros(BATCH, CELLS, dtype=torch.bool)
    mask[1, -1] = True
    return Memory(
        tokens=torch.randn(BATCH, CELLS, WIDTH),
        pos=torch.randn(BATCH, CELLS, WIDTH),
        mask=mask,
        shapes=((2, 3),),
        valid_ratios=torch.ones(BATCH, 1, 2),
        image_wh=torch.full((BATCH, 2), 96.0),
    )


@pytest.fixture
def state() -> State:
    content, pos, spatial = torch.randn(3, BATCH, QUERIES, WIDTH).unbind()
    return State(content, pos, LogitReference(torch.randn(BATCH, QUERIES, 2)), spatial)


def heads(x: Tensor) -> list[Tensor]:
    return list(x.split(WIDTH // HEADS, -1))


def naive(scores: list[Tensor], values: list[Tensor], keep: Tensor) -> Tensor:
    """Attention head by head, of scores (B, N, S) where ``keep`` (B, N, S)."""
    weights = [s.masked_fill(~keep, -math.inf).softmax(-1) for s in scores]
    return torch.cat([w @ v for w, v in zip(weights, values)], -1)


# ---- attention -----------------------------------------------------------------------------------


def test_self_attention_adds_the_two_projections(state: State, memory: Memory) -> None:
    op = DecoupledSelfAttention(WIDTH, HEADS).eval()
    keep = torch.rand(BATCH, QUERIES, QUERIES) < 0.7
    keep |= torch.eye(QUERIES, dtype=torch.bool)
    masked = State(state.content, state.pos, self_mask=keep[:, None])
    q = heads(op.query_content(state.content) + op.query_pos(state.pos))
    k = heads(op.key_content(state.content) + op.key_pos(state.pos))
    scores = [a @ b.mT / (WIDTH // HEADS) ** 0.5 for a, b in zip(q, k)]
    expected = op.out_proj(naive(scores, heads(op.value(state.content)), keep))
    torch.testing.assert_close(op(masked, memory, 0), expected)


@pytest.mark.parametrize('layer', [0, 1])
def test_cross_attention_adds_two_dot_products(state: State, memory: Memory, layer: int) -> None:
    op = ConditionalCrossAttention(WIDTH, HEADS, layer=layer).eval()
    q, k = op.query_content(state.content), op.key_content(memory.tokens)
    place = op.key_pos(memory.pos)
    if layer == 0:  # only there content and position are mixed
        q, k = q + op.query_pos(state.pos), k + place
    content = [a @ b.mT for a, b in zip(heads(q), heads(k))]
    spatial = [a @ b.mT for a, b in zip(heads(op.query_spatial(state.spatial)), heads(place))]
    scale = (2 * WIDTH // HEADS) ** 0.5
    scores = [(c + s) / scale for c, s in zip(content, spatial)]
    keep = ~memory.mask[:, None].expand(-1, QUERIES, -1)
    expected = op.out_proj(naive(scores, heads(op.value(memory.tokens)), keep))
    torch.testing.assert_close(op(state, memory, layer), expected)


def test_only_layer_0_projects_the_query_position() -> None:
    names = [
        {name.split('.')[0] for name, _ in ConditionalCrossAttention(layer=i).named_parameters()}
        for i in (0, 1)
    ]
    assert names[0] - names[1] == {'query_pos'}
    assert not names[1] - names[0]


def test_cross_attention_without_a_spatial_query(state: State, memory: Memory) -> None:
    op = ConditionalCrossAttention(WIDTH, HEADS)
    with pytest.raises(ValueError, match=r'needs a spatial query.*set decoder\.query_position'):
        op(State(state.content, state.pos), memory, 0)


# ---- the spatial query ---------------------------------------------------------------------------


def spatial(form: str, state: State, memory: Memory, layer: int) -> Tensor:
    torch.manual_seed(0)
    made = ConditionalPosition(WIDTH, form)(state, memory, layer).spatial
    return made(state.content) if callable(made) else made


def test_forms_of_the_spatial_query(state: State, memory: Memory) -> None:
    code = sine_point_code(state.ref.unit(), WIDTH // 2)
    torch.manual_seed(0)
    factors = CodeProjection(WIDTH).mlp(state.content)
    expected = {
        'CSQ': factors * code,
        'CSQ-C': state.content,
        'CSQ-T': factors,
        'CSQ-P': code,
        'CSQ-I': factors * code,
    }
    for form in FORMS:
        torch.testing.assert_close(spatial(form, state, memory, 3), expected[form], msg=form)
    at_first = dict.fromkeys(FORMS, code)
    at_first |= {'CSQ-C': state.content, 'CSQ-T': torch.ones_like(code)}
    for form in FORMS:
        torch.testing.assert_close(spatial(form, state, memory, 0), at_first[form], msg=form)


def test_csq_i_reads_the_output_of_self_attention(state: State, memory: Memory) -> None:
    """CSQ reads the content as it enters the layer."""
    op = ConditionalCrossAttention(WIDTH, HEADS, layer=1).eval()
    code = sine_point_code(state.ref.unit(), WIDTH // 2)
    after = torch.randn_like(state.content)
    for form, read in (('CSQ', state.content), ('CSQ-I', after)):
        position = ConditionalPosition(WIDTH, form)
        made = position(state, memory, 1).spatial
        expected = op(State(after, spatial=position.projection(code, read)), memory, 1)
        torch.testing.assert_close(op(State(after, spatial=made), memory, 1), expected, msg=form)


@pytest.mark.parametrize('kind', PROJECTIONS)
def test_projections_are_linear_maps_of_their_shape(kind: str) -> None:
    """Figure 5: the matrix that the map is, read off its columns."""
    torch.manual_seed(0)
    projection = CodeProjection(WIDTH, kind, HEADS)
    embedding = torch.randn(1, 1, WIDTH).expand(1, WIDTH, -1)
    matrix = projection(torch.eye(WIDTH)[None], embedding)[0].mT
    code = torch.randn(1, WIDTH, WIDTH)
    torch.testing.assert_close(projection(code, embedding), code @ matrix.mT)
    block = torch.block_diag(*[torch.ones(WIDTH // HEADS, WIDTH // HEADS)] * HEADS)
    shape = {'block': block, 'full': torch.ones(WIDTH, WIDTH)}.get(kind, torch.eye(WIDTH))
    assert torch.equal(matrix != 0, shape != 0)
    distinct = {'identity': 1, 'scalar': 1, 'diagonal': WIDTH}.get(kind, int(shape.sum()))
    assert len(matrix[matrix != 0].unique()) == distinct
    if kind == 'identity':
        assert torch.equal(matrix, torch.eye(WIDTH))


def test_wrong_options() -> None:
    with pytest.raises(ValueError, match=r"form must be one of .* got 'CSQ-X'; change it"):
        ConditionalPosition(WIDTH, 'CSQ-X')
    with pytest.raises(ValueError, match=r"projection must be .* got 'low-rank'; change it"):
        ConditionalPosition(WIDTH, projection='low-rank')
    for form, projection in (('CSQ-P', 'full'), ('CSQ-C', 'scalar'), ('CSQ-T', 'identity')):
        with pytest.raises(ValueError, match=f'form {form!r} must keep the projection'):
            ConditionalPosition(WIDTH, form, projection)


def test_queries_without_a_reference(state: State, memory: Memory) -> None:
    with pytest.raises(ValueError, match='needs references with 2 coordinates, got 0; choose'):
        ConditionalPosition(WIDTH)(State(state.content), memory, 0)


# ---- whole models --------------------------------------------------------------------------------


def model(name: str, **options: object) -> nn.Module:
    """A shrunk model, with dotted options replaced as on the command line."""
    cfg = Config({'model': tiny.shrink(tiny.load(name).model)})
    cfg.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    torch.manual_seed(0)
    return tiny.randomise_(MODELS.build(cfg.model).eval())


FORM, PROJECTION = 'decoder.query_position.form', 'decoder.query_position.projection'
REFERENCE = 'queries.reference.type'
OPTIONS = [
    *({FORM: form} for form in FORMS),
    *({PROJECTION: kind} for kind in PROJECTIONS),
    {FORM: 'CSQ-I', PROJECTION: 'full'},
    *({REFERENCE: kind} for kind in ('MLPReference', 'LearnedReference', 'FixedReference')),
]


@pytest.mark.parametrize('options', OPTIONS, ids=lambda o: ' '.join(o.values()))
def test_every_ablation_learns(options: dict[str, str]) -> None:
    network = model('conditional_detr_r50', **options)
    losses = network.loss(*tiny.batch())
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    missing = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize('kind', ['MLPReference', 'LearnedReference', 'FixedReference'])
def test_boxes_are_offsets_from_the_reference(kind: str) -> None:
    """Equation 1: with a box head that says nothing, the centre is the reference."""
    network = model('conditional_detr_r50', **{REFERENCE: kind})
    assert_offset_regression(network, fixed=kind == 'FixedReference')


def test_detr_with_offset_regression() -> None:
    """Conditional DETR, table 4: DETR takes any of the references too, and nothing else changes."""
    network = model('detr_r50', **{'queries.reference': {'type': 'MLPReference'}})
    assert_offset_regression(network, fixed=False)
    plain = sum(p.numel() for p in model('detr_r50').parameters())
    extra = sum(p.numel() for p in network.queries.reference.parameters())
    assert sum(p.numel() for p in network.parameters()) == plain + extra


def assert_offset_regression(network: nn.Module, fixed: bool) -> None:
    with torch.no_grad():
        for parameter in network.head.box_branches.parameters():
            parameter.zero_()
        boxes = network(*tiny.batch(), mode='tensor')['pred_boxes'][-1]
        pos = network.queries.embedding.weight[None]
        centres = network.queries.reference(pos)[0].sigmoid()
    torch.testing.assert_close(boxes[0, :, :2], centres)
    torch.testing.assert_close(boxes[0, :, 2:], torch.full_like(centres, 0.5))
    assert (len(centres.unique(dim=0)) == 1) is fixed
    if fixed:
        assert (centres == 0.5).all()


def test_detr_with_focal_loss() -> None:
    """DETR-DC5+ has as many class columns as classes and 300 queries."""
    cfg = tiny.load('detr_dc5_plus_r50')
    assert cfg.model.queries.num_queries == 300
    assert cfg.train_cfg.max_epochs == 50
    network = model('detr_dc5_plus_r50')
    outputs = network(*tiny.batch(), mode='tensor')
    assert outputs['pred_logits'].shape[-1] == tiny.NUM_CLASSES
    cost = cfg.model.criterion.assigner.match_costs[0]
    assert cost.type == 'FocalLossCost'


@pytest.mark.parametrize(('epochs', 'drop'), [(50, 40), (75, 60), (108, 80)])
def test_schedules(epochs: int, drop: int) -> None:
    cfg = tiny.load('conditional_detr_r50')
    if epochs != 50:
        cfg.merge_from_dict(
            {'train_cfg.max_epochs': epochs, 'param_scheduler.0.milestones': [drop]}
        )
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.param_scheduler == [
        {'type': 'MultiStepLR', 'milestones': [drop], 'gamma': 0.1, 'by_epoch': True}
    ]
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.optim_wrapper.optimizer.lr == 1e-4

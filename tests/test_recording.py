"""What `record_attention` leaves is what the model computed, and recording changes nothing."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor, nn

from mmdetr_plugin.attention import record_attention
from mmdetr_plugin.attention.base import AttentionOp
from mmdetr_plugin.attention.records import (
    AxisAttention,
    DenseAttention,
    SampledAttention,
    to_map,
)
from mmdetr_plugin.registry import MODELS

CLUSTERED = 'detr_r50 with clustered attention'
MODELS_OF_ALL_KINDS = (
    'anchor_detr_r50',
    'conditional_detr_r50',
    'd_fine_s',
    'dab_deformable_detr_r50',
    'ddq_detr_r50',
    'deformable_detr_two_stage_r50',
    'detr_panoptic_r50',
    CLUSTERED,
    'group_conditional_detr_r50',
    'lw_detr_tiny',
    'mix_anchor_deformable_r50',
    'mix_conditional_smca_r50',
    'mix_dn_anchor_detr_r50',
    'rtdetrv2_r18_discrete',
    'sam_detr_ms_smca_r50',
    'sam_detr_r50',
    'smca_detr_ms_r50',
    'smca_detr_r50',
    'tsp_rcnn_r50',
    'up_detr_r50',
)
WITHOUT = 'tsp_'
"""Beginning of the names of models whose queries do not attend to the image."""
SEEN: set[str] = set()
"""Types of the ops whose records were compared with their outputs."""


@pytest.fixture(scope='module', params=MODELS_OF_ALL_KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope='module')
def model(name: str) -> nn.Module:
    if name != CLUSTERED:
        return tiny.build(name)
    encoder = tiny.shrink(tiny.load('detr_r50').model).encoder
    encoder.layer.self_attn = dict(type='AdaptiveClusteringAttention', num_heads=4, q_hashes=4)
    return tiny.build('detr_r50', encoder=encoder)


def seeded(model: nn.Module) -> dict[str, Tensor]:
    """Outputs; models that draw random numbers draw the same ones."""
    torch.manual_seed(1)
    with torch.no_grad():
        return model(*tiny.batch(), mode='tensor')


def test_recording_changes_no_output_and_leaves_nothing_behind(model: nn.Module) -> None:
    expected = seeded(model)
    after = torch.rand(1)
    with record_attention(model) as records:
        got = seeded(model)
        assert torch.equal(after, torch.rand(1))
    assert all(torch.equal(got[key], value) for key, value in expected.items())
    assert not any(op._forward_pre_hooks for op in model.modules())
    kept = dict(records)
    seeded(model)
    assert records == kept


def test_records_are_what_the_ops_computed(name: str, model: nn.Module) -> None:
    outputs: dict[str, Tensor] = {}
    memories: dict[str, Tensor] = {}

    def keep(label: str):
        def hook(op: nn.Module, arguments: tuple, output: Tensor) -> None:
            outputs[label], memories[label] = output, arguments[1].mask

        return hook

    ops = {n: op for n, op in model.named_modules() if isinstance(op, AttentionOp)}
    hooks = [op.register_forward_hook(keep(label)) for label, op in ops.items()]
    with record_attention(model) as records:
        seeded(model)
    for hook in hooks:
        hook.remove()
    weighing = {n for n in outputs if type(ops[n]).__name__ != 'LevelConvolution'}
    assert set(records) == weighing != set()
    assert name.startswith(WITHOUT) or any('cross_attn' in label for label in records)
    for label, record in records.items():
        op = ops[label]
        SEEN.add(type(op).__name__)
        project = op.output_proj if isinstance(record, SampledAttention) else op.out_proj
        torch.testing.assert_close(
            project(record.output()), outputs[label], rtol=1e-4, atol=1e-5, msg=label
        )
        dense = record.dense()
        assert dense.shape[1] == op.num_heads and (dense >= 0).all(), label
        assert dense.shape[2] == outputs[label].shape[1]
        check_sums(record, dense)
        if record.shapes and not isinstance(record, SampledAttention):
            cells = sum(height * width for height, width in record.shapes)
            padding = memories[label]
            if padding.shape[1] == cells:  # else the op reads one level of several
                assert dense.amax((1, 2))[padding].eq(0).all(), label
        if record.shapes:
            maps = torch.cat([record.maps(i).flatten(-2) for i in range(len(record.shapes))], -1)
            assert torch.equal(maps, dense)


def test_every_kind_of_op_was_compared() -> None:
    registered = MODELS.module_dict.items()
    ops = {name for name, cls in registered if issubclass(cls, AttentionOp)}
    assert SEEN in (set(), ops - {'LevelConvolution'})  # empty where the tests above were left out


def check_sums(record: object, dense: Tensor) -> None:
    """All weights of a query add up to one."""
    if isinstance(record, SampledAttention):
        sums = sum(weights.sum(-1) for weights in record.weights)
        assert (dense.sum(-1) < 1 + 1e-4).all()  # places outside the map have no cell
    else:
        sums = dense.sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=1e-4, atol=1e-5)
    if isinstance(record, AxisAttention):
        for axis in (record.row, record.column):
            torch.testing.assert_close(axis.sum(-1), torch.ones_like(axis.sum(-1)))
    if isinstance(record, DenseAttention):
        for key, part in record.parts.items():
            assert part.shape == dense.shape and part.isfinite().all(), key


def test_parts_of_each_family() -> None:
    """What papers draw is there: parts of the scores, Gaussians, salient points."""
    batch = tiny.batch()
    found = {}
    for config in ('conditional_detr_r50', 'smca_detr_r50', 'sam_detr_smca_r50'):
        model = tiny.build(config)
        with record_attention(model) as records, torch.no_grad():
            model(*batch, mode='tensor')
        found[config] = records
    conditional = found['conditional_detr_r50'].decoder()
    content, spatial = conditional.parts['content'], conditional.parts['spatial']
    product = (
        content * spatial
    )  # softmaxes of two terms: their product is that of the sum, unscaled
    torch.testing.assert_close(product / product.sum(-1, keepdim=True), conditional.weights)
    smca = found['smca_detr_r50'].decoder(0)
    assert ((smca.parts['gaussian'] > 0).sum(-1) > 0).all()
    points = found['sam_detr_smca_r50'].decoder(1).points
    assert points.shape[-1] == 2
    assert found['smca_detr_r50'].encoder().maps().shape[2] == smca.maps().shape[-2:].numel()
    with pytest.raises(ValueError, match='layer must be one of the 2 decoder layers'):
        found['smca_detr_r50'].decoder(2)
    with pytest.raises(ValueError, match='only attention to an image has maps'):
        found['smca_detr_r50']['decoder.layers.0.self_attn'].maps()
    assert to_map(torch.arange(6.0), ((1, 2), (2, 2)), 1).tolist() == [[2, 3], [4, 5]]


def test_a_compiled_model_is_recorded_and_stays_compiled() -> None:
    model = tiny.build('detr_r50', compile=dict(backend='eager'))
    graphs = model.compiled
    expected = seeded(tiny.build('detr_r50'))
    with record_attention(model) as records:
        got = seeded(model)
    assert model.compiled is graphs
    assert torch.equal(got['pred_boxes'], expected['pred_boxes']) and len(records) == 5

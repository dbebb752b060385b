"""The detector with ``compile``: whole graphs, few of them, the same results."""

from __future__ import annotations

import copy

import pytest
import tiny
import torch
from steps import FAMILIES, assert_outputs_equal, forward, loss_and_gradients
from torch import Tensor

GRAPHS: list[torch.fx.GraphModule] = []


def count_graphs(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
    """A backend of torch.compile that runs the graph as it is."""
    GRAPHS.append(graph)
    return graph.forward


@pytest.fixture
def _no_graphs() -> None:
    torch.compiler.reset()
    GRAPHS.clear()


WHOLE = {'backend': count_graphs, 'fullgraph': True}
SIZES = (((64, 96), (50, 70)), ((64, 96), (64, 96)), ((90, 120), (80, 128)), ((64, 128), (60, 128)))


@pytest.mark.usefixtures('_no_graphs')
@pytest.mark.parametrize('name', [name for name in FAMILIES if 'sam' not in name])
def test_models_compile_without_a_break(name: str) -> None:
    """`fullgraph` raises an error where there is one; with dropout, and under autocast."""
    model = tiny.build(name)
    compiled = tiny.build(name, compile=WHOLE)
    with tiny.fixed_selection(model), tiny.fixed_selection(compiled):
        assert_outputs_equal(forward(compiled), forward(model))
        expected, gradients = loss_and_gradients(model)
        got, others = loss_and_gradients(compiled)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert set(others) == set(gradients)
    for key, value in gradients.items():
        torch.testing.assert_close(others[key], value, rtol=1e-3, atol=1e-4, msg=key)
    compiled.encoder.layers[0].self_attn_out.dropout.p = 0.1
    with torch.autocast('cpu', torch.bfloat16):
        loss_and_gradients(compiled)
    assert len(GRAPHS) >= 6, 'encoder and decoder, without a gradient, with it, under autocast'


@pytest.mark.usefixtures('_no_graphs')
@pytest.mark.parametrize('name', ['detr_r50', 'deformable_detr_r50'])
def test_images_of_many_sizes_share_a_graph(name: str) -> None:
    model, compiled = tiny.build(name), tiny.build(name, compile={**WHOLE, 'cells': 4})
    for sizes in SIZES:
        batch = tiny.batch(sizes=sizes)
        assert_outputs_equal(forward(compiled, *batch), forward(model, *batch))
    assert len(GRAPHS) == 2, 'one of the encoder, one of the decoder'


@pytest.mark.usefixtures('_no_graphs')
def test_a_copy_of_a_compiled_model_has_its_own_weights() -> None:
    model = tiny.build('detr_r50', compile=WHOLE)
    before = forward(model)
    other = tiny.randomise_(copy.deepcopy(model), seed=1)
    assert not torch.allclose(forward(other)['pred_boxes'], before['pred_boxes'])
    assert_outputs_equal(forward(model), before)


@pytest.mark.slow
@pytest.mark.usefixtures('_no_graphs')
@pytest.mark.parametrize('name', ['detr_r50', 'deformable_detr_r50'])
def test_inductor_gives_the_same(name: str) -> None:
    model, compiled = tiny.build(name), tiny.build(name, compile={'fullgraph': True})
    assert_outputs_equal(forward(compiled), forward(model))
    expected, got = loss_and_gradients(model), loss_and_gradients(compiled)
    torch.testing.assert_close(got[0], expected[0], rtol=1e-4, atol=1e-4)
    for key, value in expected[1].items():
        torch.testing.assert_close(got[1][key], value, rtol=1e-3, atol=1e-3, msg=key)


def test_bad_buckets_are_refused() -> None:
    with pytest.raises(ValueError, match=r'compile.cells must be 0 or a positive integer, got 1.5'):
        tiny.build('detr_r50', compile={'cells': 1.5})
    with pytest.raises(ValueError, match=r'compile.cells must be 0 with a mask head'):
        tiny.build('detr_panoptic_r50', compile={'cells': 8})

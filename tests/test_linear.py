"""The fused linear layer computes what its two parts compute, and stands back where more is asked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmdetr_plugin.ops import linear as module
from mmdetr_plugin.ops.linear import apply_linear

needs_onednn = pytest.mark.skipif(module.FUSED is None, reason='torch was built without oneDNN')


@pytest.fixture
def layer() -> nn.Linear:
    return nn.Linear(6, 10)


@pytest.mark.parametrize('shape', [(6,), (0, 6), (4, 6), (2, 3, 6), (5, 4, 3, 6)])
@pytest.mark.parametrize('grad', [False, True])
def test_equal_to_its_parts(layer: nn.Linear, shape: tuple[int, ...], grad: bool) -> None:
    x = torch.randn(shape)
    with torch.set_grad_enabled(grad):
        found = apply_linear(layer, x, relu=True)
        plain = apply_linear(layer, x)
    torch.testing.assert_close(found, layer(x).relu(), check_stride=False)
    torch.testing.assert_close(plain, layer(x), check_stride=False)


def test_tensors_of_any_layout_and_layers_without_bias() -> None:
    layer = nn.Linear(6, 10, bias=False)
    x = torch.randn(6, 3, 2).transpose(0, 2)
    with torch.inference_mode():
        torch.testing.assert_close(
            apply_linear(layer, x, relu=True), layer(x).relu(), check_stride=False
        )


@needs_onednn
def test_one_operator_in_inference_and_two_in_training(
    layer: nn.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fused(x: Tensor, *rest: object) -> Tensor:
        calls.append(rest)
        return layer(x).relu()

    monkeypatch.setattr(module, 'FUSED', fused)
    x = torch.randn(2, 6)
    apply_linear(layer, x, relu=True).sum().backward()
    assert layer.weight.grad is not None and not calls
    with torch.no_grad():
        apply_linear(layer, x, relu=True)
    assert len(calls) == 1


@pytest.mark.parametrize('reason', ['hook', 'autocast', 'bfloat16', 'double', 'off', 'other type'])
def test_stands_back(layer: nn.Linear, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'FUSED', lambda *_: pytest.fail('must not be used'))
    seen: list[Tensor] = []
    x = torch.randn(2, 6)
    if reason == 'hook':
        layer.register_forward_hook(lambda *args: seen.append(args[-1]))
    elif reason in ('bfloat16', 'double'):
        layer, x = (y.to(getattr(torch, reason)) for y in (layer, x))
    elif reason == 'other type':
        layer = type('Other', (nn.Linear,), {})(6, 10)
    on = torch.backends.mkldnn.flags(enabled=reason != 'off')
    with torch.no_grad(), on, torch.autocast('cpu', enabled=reason == 'autocast'):
        apply_linear(layer, x, relu=True)
    assert len(seen) == (reason == 'hook')


def test_graphs_have_standard_operators(layer: nn.Linear) -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return apply_linear(self.layer, x, relu=True)

    x = torch.randn(2, 6)
    with torch.no_grad():
        exported = torch.export.export(Layer(), (x,)).graph
        traced = torch.jit.trace(Layer(), (x,)).inlined_graph
    assert 'mkldnn' not in str(exported) and 'mkldnn' not in str(traced)


def test_products_are_counted(layer: nn.Linear) -> None:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        apply_linear(layer, torch.randn(3, 6))
    assert counter.get_total_flops() == 2 * 3 * 6 * 10

"""Linear layers by oneDNN compute what torch's do, and stand back where more is asked."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmdetr_plugin.ops import linear as module
from mmdetr_plugin.ops.linear import Linear

needs_onednn = pytest.mark.skipif(module.FUSED is None, reason='torch was built without oneDNN')


@pytest.fixture
def layer() -> Linear:
    torch.manual_seed(0)
    return Linear(6, 10)


@pytest.fixture
def convolved(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Products of any size go the way of large ones; what went there."""
    seen: list[Tensor] = []
    convolve = module._convolved
    monkeypatch.setattr(module, 'WIDE', True)
    monkeypatch.setattr(module, 'LEAST', 1)
    monkeypatch.setattr(module, '_convolved', lambda x, *rest: seen.append(x) or convolve(x, *rest))
    return seen


def in_torch(layer: nn.Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, layer.weight, layer.bias)


@pytest.mark.parametrize('shape', [(6,), (0, 6), (4, 6), (2, 3, 6), (5, 4, 3, 6)])
@pytest.mark.parametrize('grad', [False, True])
def test_equal_to_its_parts(layer: Linear, shape: tuple[int, ...], grad: bool) -> None:
    x = torch.randn(shape)
    with torch.set_grad_enabled(grad):
        found, plain = layer(x, relu=True), layer(x)
    expected = in_torch(layer, x)
    torch.testing.assert_close(found, expected.relu(), check_stride=False)
    torch.testing.assert_close(plain, expected, check_stride=False)


def test_tensors_of_any_layout_and_layers_without_bias() -> None:
    layer = Linear(6, 10, bias=False)
    x = torch.randn(6, 3, 2).transpose(0, 2)
    with torch.inference_mode():
        torch.testing.assert_close(
            layer(x, relu=True), in_torch(layer, x).relu(), check_stride=False
        )


@needs_onednn
@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('order', [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_gradients_of_large_products(
    convolved: list[Tensor], order: tuple[int, ...], bias: bool, relu: bool
) -> None:
    """Equal to torch's in 64 bits, for inputs in any order of memory; so are their gradients."""
    torch.manual_seed(1)
    layer = Linear(32, 48, bias)
    x = torch.randn([(2, 17, 32)[i] for i in order]).permute(order)
    exact, wide = copy.deepcopy(layer).double(), x.double().requires_grad_()
    x.requires_grad_()
    outs = layer(x, relu), in_torch(exact, wide).relu() if relu else in_torch(exact, wide)
    for out in outs:
        (out * out.cos()).sum().backward()
    assert len(convolved) == 1 and outs[0].is_contiguous()
    pairs = [outs, (x.grad, wide.grad)]
    pairs += [(p.grad, q.grad) for p, q in zip(layer.parameters(), exact.parameters(), strict=True)]
    for found, expected in pairs:
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert layer.weight.grad.stride() == layer.weight.stride()  # or DDP copies them


@needs_onednn
def test_small_and_narrow_products_stay_torchs(
    convolved: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    Linear(32, 10)(torch.randn(4, 32))
    Linear(10, 32)(torch.randn(4, 10))
    monkeypatch.setattr(module, 'LEAST', 4 * 32 * 32 + 1)
    Linear(32, 32)(torch.randn(4, 32))
    assert not convolved
    Linear(32, 32)(torch.randn(5, 32))
    assert len(convolved) == 1


@needs_onednn
def test_one_operator_in_inference_and_two_in_training(
    layer: Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(module, 'FUSED', lambda *args: calls.append(args) or torch.zeros(2, 10))
    x = torch.randn(2, 6)
    layer(x, relu=True).sum().backward()
    assert layer.weight.grad is not None and not calls
    with torch.no_grad():
        layer(x, relu=True)
    assert len(calls) == 1


@pytest.mark.parametrize(
    'reason', ['autocast', 'bfloat16', 'double', 'off', 'subclass', 'meta', 'columns']
)
def test_more_than_numbers(reason: str) -> None:
    x, weight = torch.randn(2, 6), torch.randn(10, 6)
    assert module._only_numbers(x, weight)
    if reason in ('bfloat16', 'double'):
        x, weight = (y.to(getattr(torch, reason)) for y in (x, weight))
    elif reason == 'subclass':
        weight = weight.as_subclass(type('Sharded', (Tensor,), {}))
    elif reason == 'columns':
        weight = torch.randn(10, 12)[:, :6]
    elif reason == 'meta':
        x, weight = x.to('meta'), weight.to('meta')
    on = torch.backends.mkldnn.flags(enabled=reason != 'off')
    with on, torch.autocast('cpu', enabled=reason == 'autocast'):
        assert not module._only_numbers(x, weight)


@needs_onednn
def test_graphs_have_standard_operators(layer: Linear, convolved: list[Tensor]) -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x, relu=True)

    x = torch.randn(2, 6)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            exported = torch.export.export(Layer(), (x,)).graph
            traced = torch.jit.trace(Layer(), (x,)).inlined_graph
        assert 'mkldnn' not in str(exported) and 'mkldnn' not in str(traced)
    assert not convolved


@pytest.mark.parametrize('grad', [False, True])
def test_products_are_counted(convolved: list[Tensor], grad: bool) -> None:
    layer = Linear(32, 16)
    with torch.set_grad_enabled(grad), FlopCounterMode(display=False) as counter:
        layer(torch.randn(3, 32))
    assert counter.get_total_flops() == 2 * 3 * 32 * 16

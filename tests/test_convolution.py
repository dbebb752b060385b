"""Convolution, norm, sum and activation in one call compute what the parts do one after the other."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmdetr_plugin.backbones import DilatedResNet
from mmdetr_plugin.deployment import fold_for_deployment_
from mmdetr_plugin.ops import convolution
from mmdetr_plugin.ops.convolution import convolved
from mmdetr_plugin.ops.folding import fold_norms_

pytestmark = pytest.mark.skipif(convolution.FUSED is None, reason='torch was built without oneDNN')
ACTS = {'none': None, 'identity': nn.Identity(), 'relu': nn.ReLU(inplace=True), 'silu': nn.SiLU()}


class Calls:
    """oneDNN's convolution, which counts."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, *args: object) -> Tensor:
        self.number += 1
        return torch.ops.mkldnn._convolution_pointwise(*args)

    binary = __call__


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made = Calls()
    monkeypatch.setattr(convolution, 'FUSED', made)
    return made


def pair(
    kernel: int = 3, stride: int = 1, dilation: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution and its norm, folded, in evaluation mode."""
    torch.manual_seed(0)
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(16, 24, kernel, stride, padding, dilation, groups, bias=False)
    norm = nn.BatchNorm2d(24)
    nn.init.normal_(norm.weight, 1, 0.3)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    both = nn.Sequential(conv, norm).eval()
    fold_norms_(both)
    return both[0], both[1]


def one_by_one(
    conv: nn.Conv2d, norm: nn.Module, x: Tensor, act: nn.Module | None, other: Tensor | None
) -> Tensor:
    """The parts in 64 bits."""
    conv, norm, x = (copy.deepcopy(part).double() for part in (conv, norm, x))
    out = nn.functional.batch_norm(
        nn.functional.conv2d(
            x, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups
        ),
        norm.running_mean,
        norm.running_var,
        norm.weight,
        norm.bias,
        eps=norm.eps,
    )
    out = out if other is None else out + other.double()
    return (out if act is None else act(out)).float()


@pytest.mark.parametrize('act', ACTS)
@pytest.mark.parametrize('with_sum', [False, True])
@pytest.mark.parametrize(
    'form', [(3, 1, 1, 1), (1, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 1), (3, 1, 1, 8)], ids=str
)
@pytest.mark.parametrize('order', [torch.channels_last, torch.contiguous_format], ids=str)
@torch.no_grad()
def test_equal_to_its_parts(
    form: tuple[int, ...], with_sum: bool, act: str, order: torch.memory_format, calls: Calls
) -> None:
    conv, norm = pair(*form)
    x = torch.randn(2, 16, 9, 14).contiguous(memory_format=order)
    other = torch.randn_like(conv(x)) if with_sum else None
    kept = None if other is None else other.clone()
    found = convolved(conv, norm, x, ACTS[act], other)
    torch.testing.assert_close(
        found, one_by_one(conv, norm, x, ACTS[act], other), rtol=1e-5, atol=1e-5
    )
    assert calls.number == (act != 'silu' or not with_sum)
    assert other is None or other.equal(kept)


@pytest.mark.parametrize('reason', ['gradient', 'training', 'hook', 'activation', 'double', 'norm'])
def test_stands_back(reason: str, calls: Calls) -> None:
    conv, norm = pair()
    act: nn.Module = nn.ReLU()
    x = torch.randn(2, 16, 9, 14)
    seen: list[object] = []
    if reason == 'training':
        norm.train()
    elif reason == 'hook':
        norm.register_forward_hook(lambda *args: seen.append(args))
    elif reason == 'activation':
        act = nn.LeakyReLU(0.1)
    elif reason == 'double':
        conv, norm, x = conv.double(), norm.double(), x.double()
    elif reason == 'norm':
        norm = nn.GroupNorm(4, 24)
    expected = act(norm(conv(x)))
    with torch.set_grad_enabled(reason == 'gradient'):
        found = convolved(conv, norm, x, act)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not calls.number
    assert len(seen) == 2 * (reason == 'hook')


@pytest.mark.parametrize('folded', [False, True])
@pytest.mark.parametrize('depth', [18, 50])
@torch.no_grad()
def test_all_convolutions_of_a_resnet(depth: int, folded: bool, calls: Calls) -> None:
    torch.manual_seed(0)
    model = DilatedResNet(depth=depth, out_indices=(0, 1, 2, 3), base_channels=16).eval()
    model = fold_for_deployment_(model) if folded else model
    x = torch.randn(1, 3, 64, 64)
    with torch.enable_grad():
        expected = model(x)
    assert not calls.number
    found = model(x)
    assert calls.number == sum(isinstance(part, nn.Conv2d) for part in model.modules())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('with_sum', [False, True])
@torch.no_grad()
def test_products_are_counted(with_sum: bool) -> None:
    conv, norm = pair(3, 2, groups=8)
    x = torch.randn(2, 16, 8, 12)
    other = torch.randn(2, 24, 4, 6) if with_sum else None
    with FlopCounterMode(display=False) as counter:
        convolved(conv, norm, x, None, other)
    assert counter.get_total_flops() == 2 * 2 * 24 * (4 * 6) * (2 * 9)

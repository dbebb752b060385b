"""Batch norms, sums and activations in one loop against torch's own, one after the other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import tiny
import torch
from mmcv.cnn import ConvModule
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from mmdetr_plugin.backbones import DilatedResNet
from mmdetr_plugin.ops import normalise
from mmdetr_plugin.ops.fused_blocks import FUSED, fuse_blocks_
from mmdetr_plugin.ops.linear import Linear
from mmdetr_plugin.ops.normalise import (
    normalised,
    normalised_max,
    normalised_parts,
    normalised_sum,
)
from mmdetr_plugin.transformer.convolutions import CSPRepBlock, RepVGGBlock

pytest.importorskip('numba')
ACTS = {'none': None, 'relu': nn.ReLU(inplace=True), 'silu': nn.SiLU()}
SIZES = [(16, 2, 5), (48, 13, 21), (32, 1, 9)]
Call = Callable[..., Tensor | Sequence[Tensor]]


def maps(number: int, channels: int, height: int, width: int, seed: int = 0) -> list[Tensor]:
    """Maps whose mean is far from 0, in channels-last order."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(number, 2, channels, height, width, generator=generator) * 3 + 2
    return [x.contiguous(memory_format=torch.channels_last) for x in made]


def norm(channels: int, seed: int = 0) -> nn.BatchNorm2d:
    torch.manual_seed(seed)
    made = nn.BatchNorm2d(channels)
    nn.init.normal_(made.weight, 1, 0.3)
    nn.init.normal_(made.bias)
    return made


def results(parts: nn.Module, call: Call, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Outputs, gradients of inputs and parameters, and statistics afterwards."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    outs = call(parts, *leaves)
    outs = [outs] if isinstance(outs, Tensor) else list(outs)
    sum((x * x.cos()).sum() for x in outs).backward()
    grads = [x.grad for x in (*leaves, *parts.parameters())]
    assert all(x is not None for x in grads)
    return [x.detach() for x in (*outs, *grads, *parts.buffers())]


def compare(
    parts: nn.Module, call: Call, inputs: Sequence[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loops and torch in 64 bits give the same; without numba torch computes."""
    torch.manual_seed(0)
    reference = copy.deepcopy(parts).double()
    exact = results(reference, call, [x.double() for x in inputs])
    used = []
    for name in ('_Sum', '_Parts', '_Max'):
        function = getattr(normalise, name)
        monkeypatch.setattr(
            function,
            'apply',
            partial(lambda apply, *args: used.append(1) or apply(*args), function.apply),
        )
    found = results(copy.deepcopy(parts), call, inputs)
    assert used, 'the loops did not run'
    for one, other in zip(found, exact, strict=True):
        scale = max(float(other.double().abs().max()), 1.0)
        torch.testing.assert_close(one.double() / scale, other.double() / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize('act', ACTS)
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('other', ['alone', 'added', 'normed'])
def test_a_norm_a_sum_and_an_activation(
    act: str, size: tuple[int, int, int], other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels = size[0]
    parts = nn.ModuleList(norm(channels, i) for i in range(2 if other == 'normed' else 1))

    def call(parts: nn.ModuleList, x: Tensor, *more: Tensor) -> Tensor:
        x = x * 1  # may be overwritten
        if other == 'normed':
            return normalised_sum(list(parts), (x, *more), ACTS[act])
        return normalised(parts[0], x, ACTS[act], *more)

    compare(parts, call, maps(1 if other == 'alone' else 2, *size), monkeypatch)


def test_parts_of_the_channels_have_norms_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = nn.ModuleList((norm(16), norm(32)))

    def call(parts: nn.ModuleList, x: Tensor) -> Sequence[Tensor]:
        return normalised_parts(list(parts), x, ACTS['silu'])

    compare(parts, call, maps(1, 48, 7, 9), monkeypatch)


@pytest.mark.parametrize('size', [*SIZES, (16, 1, 2), (16, 12, 8)])
def test_a_norm_and_the_largest_numbers_of_windows(
    size: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(normalise, 'UNIT', 64)
    relu, pool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)

    def call(part: nn.Module, x: Tensor) -> Tensor:
        return normalised_max(part, x, relu, pool)

    made = maps(1, *size)
    made[0][:, ::2] = made[0][:, ::2].round()  # equal numbers: the first of them gets the gradient
    compare(norm(size[0]), call, made, monkeypatch)


def test_many_units_on_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalise, 'UNIT', 16)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    compare(norm(16), lambda part, x: normalised(part, x * 1), maps(1, 16, 9, 13), monkeypatch)


@pytest.mark.parametrize(
    'block',
    [
        lambda: ConvModule(32, 16, 3, stride=2, norm_cfg={'type': 'BN'}),
        lambda: ConvModule(32, 16, 1, norm_cfg={'type': 'BN'}, act_cfg=None),
        lambda: nn.Sequential(
            nn.Conv2d(32, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        ),
        lambda: nn.Sequential(nn.Conv2d(32, 16, 1, bias=False), nn.BatchNorm2d(16)),
        lambda: BasicBlock(32, 32),
        lambda: Bottleneck(32, 16, downsample=nn.Conv2d(32, 64, 1)),
        lambda: RepVGGBlock(32, 16),
        lambda: CSPRepBlock(32, 16, hidden_channels=32),
    ],
)
def test_blocks_compute_what_they_did(
    block: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    part = block().to(memory_format=torch.channels_last).train()
    fuse_blocks_(part)
    compare(part, lambda part, x: part(x), maps(1, 32, 11, 6), monkeypatch)


@pytest.mark.parametrize('deep_stem', [False, True])
def test_a_resnet_trains_as_mmdets_does(deep_stem: bool) -> None:
    options = dict(depth=18, base_channels=32, deep_stem=deep_stem, norm_eval=False)
    torch.manual_seed(0)
    plain = ResNet(**options, frozen_stages=-1).double()
    ours = DilatedResNet(**options, frozen_stages=-1)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 65, 70).contiguous(memory_format=torch.channels_last)
    found = {}
    for name, model in (('mmdet', plain), ('ours', ours.to(memory_format=torch.channels_last))):
        model.train()
        outs = model(x.to(next(model.parameters()).dtype))
        sum((y * y.cos()).mean() for y in outs).backward()
        grads = {key: p.grad for key, p in model.named_parameters()}
        found[name] = {**dict(enumerate(outs)), **grads, **dict(model.named_buffers())}
    for key, exact in found['mmdet'].items():
        scale = max(float(exact.detach().abs().max()), 1e-3)
        torch.testing.assert_close(
            found['ours'][key].double() / scale, exact.double() / scale, rtol=0, atol=1e-3
        )


@pytest.mark.parametrize('others', [0, 1])
def test_parameters_can_be_freed_between_the_passes(others: int) -> None:
    """As FSDP does; torch cannot resize memory that numpy shares."""
    norms, inputs = [norm(16), norm(16, 1)][: 1 + others], maps(1 + others, 16, 4, 5)
    out = normalised_sum(norms, inputs) if others else normalised(norms[0], *inputs, nn.ReLU())
    for part in norms:
        for parameter in part.parameters():
            assert parameter.untyped_storage().resizable()
    grads = torch.autograd.grad(out.cos().sum(), [part.bias for part in norms], retain_graph=True)
    with torch.no_grad():
        for part in norms:
            part.bias.zero_()
            part.weight.zero_()
    again = torch.autograd.grad(out.cos().sum(), [part.bias for part in norms])
    assert all(map(torch.equal, grads, again))


def test_fusing_keeps_names_and_evaluation() -> None:
    plain = Bottleneck(32, 16, downsample=nn.Conv2d(32, 64, 1)).eval()
    fused = copy.deepcopy(plain)
    fuse_blocks_(fused)
    assert type(fused) is FUSED[Bottleneck]
    assert fused.state_dict().keys() == plain.state_dict().keys()
    (x,) = maps(1, 32, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), plain(x), rtol=0, atol=1e-5)


def test_linear_layers_of_mmdets_backbones_are_ours() -> None:
    backbone = tiny.build('dino_swin_l').backbone
    attention = [part for name, part in backbone.named_modules() if name.endswith(('qkv', 'proj'))]
    assert attention and all(type(part) is Linear for part in attention)


@pytest.mark.parametrize(
    'change',
    [
        lambda part, x: (part.eval(), x),
        lambda part, x: (part, x.contiguous()),
        lambda part, x: (part.double(), x.double()),
        lambda part, x: (norm(12), x[:, :12]),
        lambda part, x: (nn.BatchNorm2d(16, momentum=None), x),
        lambda part, x: (nn.BatchNorm2d(16, affine=False), x),
        lambda part, x: (nn.BatchNorm2d(16, track_running_stats=False), x),
        lambda part, x: (nn.GroupNorm(4, 16), x),
    ],
)
def test_what_the_loops_do_not_know_is_left_to_torch(
    change: Callable[[nn.Module, Tensor], tuple[nn.Module, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    part, x = change(norm(16), maps(1, 16, 4, 6)[0])
    monkeypatch.setattr(normalise._Sum, 'apply', lambda *args: pytest.fail('the loops ran'))
    expected = copy.deepcopy(part)(x).relu()
    torch.testing.assert_close(normalised(part, x, nn.ReLU()), expected, rtol=0, atol=0)


def test_hooks_of_the_norm_and_the_activation_are_called() -> None:
    (x,) = maps(1, 16, 4, 6)
    seen = []
    for number in range(2):
        part, relu = norm(16), nn.ReLU()
        (part, relu)[number].register_forward_hook(lambda *args: seen.append(args[0]))
        normalised(part, x.clone(), relu)
    assert [type(module) for module in seen] == [nn.BatchNorm2d, nn.ReLU]


def test_not_a_number_stays_one() -> None:
    (x,) = maps(1, 16, 4, 6)
    x[0, 0, 0, 0] = torch.nan
    out = normalised(norm(16), x, nn.ReLU())
    assert out[:, 0].isnan().all() and out[:, 1:].isfinite().all()

"""Deformable attention: the op equals its definition, the module equals mmcv's."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from attention_check import naive
from cli import run as run_command
from mmcv.ops import MultiScaleDeformableAttention as MmcvAttention
from torch import Tensor

from mmdetr_plugin.attention import DeformableAttention, MultiScaleDeformableAttention
from mmdetr_plugin.ops.deformable import (
    BACKENDS,
    deformable_attention,
    has_numba,
    level_layout,
)
from mmdetr_plugin.structures import Memory, State

SHAPES = ((5, 8), (3, 4), (2, 3), (1, 2), (1, 1))
ON_CPU = [
    'grid',
    pytest.param('compiled', marks=pytest.mark.skipif(not has_numba(), reason='needs numba')),
]


def inputs(levels: int, spread: float, points: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Values, locations in the middle ``spread`` + 1 unit squares, weights that sum to 1."""
    generator = torch.Generator().manual_seed(levels)
    size = sum(h * w for h, w in SHAPES[:levels])
    value = torch.randn(2, size, 2, 3, generator=generator, dtype=torch.float64)
    place = torch.rand(2, 4, 2, levels, points, 2, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, 4, 2, levels * points, generator=generator, dtype=torch.float64)
    locations = (place - 0.5) * (1 + spread) + 0.5
    return value, locations, weights.softmax(-1).unflatten(-1, (levels, points))


def run(sample: object, tensors: tuple[Tensor, ...], shapes: tuple) -> list[Tensor]:
    """Output, and gradients of a random projection of it."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    out = sample(leaves[0], shapes, *leaves[1:])
    generator = torch.Generator().manual_seed(9)
    direction = torch.randn(out.shape, generator=generator, dtype=out.dtype)
    return [out, *torch.autograd.grad((out * direction).sum(), leaves)]


def backend(name: str) -> object:
    return lambda *args: deformable_attention(*args, backend=name)


@pytest.mark.parametrize('name', ON_CPU)
@pytest.mark.parametrize('levels', range(1, 6))
@pytest.mark.parametrize('spread', [0.0, 2.0])
def test_equals_the_definition(name: str, levels: int, spread: float) -> None:
    tensors, shapes = inputs(levels, spread), SHAPES[:levels]
    for got, expected in zip(run(backend(name), tensors, shapes), run(naive, tensors, shapes)):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize('name', ON_CPU)
def test_samples_on_the_border_and_far_outside(name: str) -> None:
    """The outermost half cell fades to zero; cell centres give the cell; far away is nothing."""
    shapes = ((4, 4),)
    value = torch.arange(1.0, 17).view(1, 16, 1, 1)
    x = torch.tensor([0.0, 0.125, 0.375, 0.875, 1.0, -0.125, 1.125, 7.0])
    locations = torch.stack((x, torch.full_like(x, 0.125)), -1).view(1, -1, 1, 1, 1, 2)
    weights = torch.ones(1, len(x), 1, 1, 1)
    got = deformable_attention(value, shapes, locations, weights, backend=name)
    expected = torch.tensor([0.5, 1, 2, 4, 2, 0, 0, 0])
    torch.testing.assert_close(got.flatten(), expected)


@pytest.mark.parametrize('name', ON_CPU)
def test_half_precision_keeps_places_exact(name: str) -> None:
    """Locations never go through 16 bits, where a step is most of a cell of a large map."""
    shapes = ((1, 400),)
    value = torch.arange(400.0).view(1, 400, 1, 1) / 512
    locations = torch.tensor([(300.25 + 0.5) / 400, 0.5]).view(1, 1, 1, 1, 1, 2)
    out = deformable_attention(
        value.bfloat16(), shapes, locations, torch.ones(1, 1, 1, 1, 1).bfloat16(), backend=name
    )
    assert out.dtype == torch.bfloat16
    assert abs(out.item() * 512 - 300.25) <= 1  # the rounding of the values alone


THREADS = """
import torch
from mmdetr_plugin.ops.deformable import deformable_attention
torch.set_num_threads({threads})
place, weight = torch.rand(1, 3, 2, 1, 1, 2), torch.ones(1, 3, 2, 1, 1)
deformable_attention(torch.rand(1, 6, 2, 4), ((2, 3),), place, weight)
print(torch.get_num_threads())
"""


@pytest.mark.parametrize('threads', [1, 2])
def test_number_of_threads_is_left_alone(threads: int, tmp_path: Path) -> None:
    """In a new process: what a compiled backend does to it, it does in its first call."""
    text = run_command(
        [sys.executable, '-W', 'ignore', '-c', THREADS.format(threads=threads)], tmp_path
    )
    assert int(text) == threads


def test_unknown_backend_is_told() -> None:
    tensors = inputs(1, 0.0)
    with pytest.raises(ValueError, match=r"backend must be one of .*'grid'.* got 'cuda'; change"):
        deformable_attention(tensors[0], SHAPES[:1], *tensors[1:], backend='cuda')


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_mmcv_kernel_equals_the_definition() -> None:
    tensors = [tensor.float().cuda() for tensor in inputs(4, 1.0)]
    assert 'mmcv' in BACKENDS
    ours, theirs = (run(backend(name), tensors, SHAPES[:4]) for name in ('grid', 'mmcv'))
    for got, expected in zip(theirs, ours):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_tracing_leaves_nothing_behind() -> None:
    """Sizes made inside a trace or without autograd are not handed to later calls."""
    shapes, layer = ((7, 5), (3, 2)), DeformableAttention(16, 2, num_levels=2, num_points=1)
    arguments = torch.randn(1, 3, 16), torch.rand(1, 3, 2, 2), torch.randn(1, 41, 16)

    class Sample(torch.nn.Module):
        def forward(self, query: Tensor, points: Tensor, value: Tensor) -> Tensor:
            return layer.sample(query, points, value, None, shapes)

    exported = torch.export.export(Sample(), arguments)
    with torch.inference_mode():
        expected = Sample()(*arguments)
    assert not any(tensor.is_inference() for tensor in level_layout(shapes, torch.device('cpu')))
    got = Sample()(*arguments)
    got.sum().backward()
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(exported.module()(*arguments), expected)


# ---- the drop-in for mmcv's module ---------------------------------------------------------------


def pair(**kwargs: object) -> tuple[MultiScaleDeformableAttention, MmcvAttention]:
    """Ours and mmcv's with the same random weights, loaded strictly."""
    torch.manual_seed(0)
    kwargs = {'embed_dims': 32, 'num_heads': 4, 'num_levels': 3, 'dropout': 0.0, **kwargs}
    ours, theirs = MultiScaleDeformableAttention(**kwargs), MmcvAttention(**kwargs)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize('ratio', [1.0, 0.5])
@pytest.mark.parametrize('batch_first', [True, False])
@pytest.mark.parametrize('dims', [2, 4])
@pytest.mark.parametrize('extras', [(), ('query_pos', 'key_padding_mask', 'identity')])
def test_module_equals_mmcvs(ratio: float, batch_first: bool, dims: int, extras: tuple) -> None:
    ours, theirs = pair(batch_first=batch_first, value_proj_ratio=ratio)
    shapes = torch.tensor(SHAPES[:3])
    size = int(shapes.prod(1).sum())
    tensors = {'query': torch.randn(2, 6, 32), 'value': torch.randn(2, size, 32)}
    if 'query_pos' in extras:
        tensors |= {'query_pos': torch.randn(2, 6, 32), 'identity': torch.randn(2, 6, 32)}
    if not batch_first:
        tensors = {key: tensor.transpose(0, 1) for key, tensor in tensors.items()}
    rest = {
        'reference_points': torch.rand(2, 6, 3, dims),
        'spatial_shapes': shapes,
        'level_start_index': torch.tensor([0, *shapes.prod(1).cumsum(0)[:-1]]),
        'key_padding_mask': torch.rand(2, size) < 0.3 if 'key_padding_mask' in extras else None,
    }
    got, expected = (module(**tensors, **rest) for module in (ours, theirs))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_module_as_self_attention_equals_mmcvs() -> None:
    """Without a value the query, before its position is added, is the value."""
    ours, theirs = pair(num_levels=1, batch_first=True)
    query, pos = torch.randn(2, 12, 32), torch.randn(2, 12, 32)
    rest = {
        'reference_points': torch.rand(2, 12, 1, 2),
        'spatial_shapes': torch.tensor([[3, 4]]),
        'level_start_index': torch.tensor([0]),
    }
    got, expected = (module(query, query_pos=pos, **rest) for module in (ours, theirs))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_module_starts_as_mmcvs() -> None:
    ours, theirs = (kind(64, 8, 4, 4) for kind in (MultiScaleDeformableAttention, MmcvAttention))
    for name in ('sampling_offsets', 'attention_weights'):
        for part in ('weight', 'bias'):
            got, expected = (getattr(getattr(m, name), part) for m in (ours, theirs))
            torch.testing.assert_close(got, expected)
    for name in ('value_proj', 'output_proj'):
        assert not getattr(ours, name).bias.any()
        bound = math.sqrt(6 / 128)
        assert 0.95 * bound < getattr(ours, name).weight.abs().max() <= bound


# ---- the op of the transformer -------------------------------------------------------------------


def memory(shapes: tuple = ((4, 6), (2, 3)), width: int = 16) -> Memory:
    size = sum(h * w for h, w in shapes)
    return Memory(
        tokens=torch.randn(2, size, width),
        pos=torch.randn(2, size, width),
        mask=torch.zeros(2, size, dtype=torch.bool),
        shapes=shapes,
        valid_ratios=torch.ones(2, len(shapes), 2),
        image_wh=torch.tensor([[96.0, 64.0]] * 2),
        padded=False,
    )


def test_reference_and_explicit_points_agree() -> None:
    layer = DeformableAttention(16, 4, num_levels=2, num_points=2)
    state = State(torch.randn(2, 5, 16), torch.randn(2, 5, 16), ref=torch.randn(2, 5, 4))
    points = state.ref.sigmoid()[:, :, None].expand(-1, -1, 2, -1)
    explicit = State(state.content, state.pos, points=points)
    tokens = memory()
    torch.testing.assert_close(layer(state, tokens, 0), layer(explicit, tokens, 0))


def test_levels_must_agree() -> None:
    layer = DeformableAttention(16, 4, num_levels=3)
    state = State(torch.randn(2, 5, 16), ref=torch.randn(2, 5, 2))
    with pytest.raises(ValueError, match=r'num_levels=3, got 2 feature levels; make neck outputs'):
        layer(state, memory(), 0)

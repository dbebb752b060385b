"""The modules around the sampling: ours equals mmcv's, the op of the transformer."""

from __future__ import annotations

import math

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention as MmcvAttention
from torch import Tensor

from mmdetr_plugin.attention import DeformableAttention, MultiScaleDeformableAttention
from mmdetr_plugin.ops.deformable import level_tables
from mmdetr_plugin.structures import LogitReference, Memory, State

SHAPES = ((5, 8), (3, 4), (2, 3))


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
    assert not any(tensor.is_inference() for tensor in level_tables(shapes, torch.device('cpu')))
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
    shapes = torch.tensor(SHAPES)
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
    state = State(
        torch.randn(2, 5, 16), torch.randn(2, 5, 16), ref=LogitReference(torch.randn(2, 5, 4))
    )
    points = state.ref.unit()[:, :, None].expand(-1, -1, 2, -1)
    explicit = State(state.content, state.pos, points=points)
    tokens = memory()
    torch.testing.assert_close(layer(state, tokens, 0), layer(explicit, tokens, 0))


def test_levels_must_agree() -> None:
    layer = DeformableAttention(16, 4, num_levels=3)
    state = State(torch.randn(2, 5, 16), ref=LogitReference(torch.randn(2, 5, 2)))
    with pytest.raises(ValueError, match=r'num_levels=3, got 2 feature levels; make neck outputs'):
        layer(state, memory(), 0)


def test_backend_can_be_forced() -> None:
    """Unknown names are refused when the model is built; installed ones give the same."""
    chosen, forced = (DeformableAttention(16, 4, 2, 2, backend=name) for name in (None, 'grid'))
    forced.load_state_dict(chosen.state_dict())
    state = State(
        torch.randn(2, 5, 16), torch.randn(2, 5, 16), ref=LogitReference(torch.randn(2, 5, 4))
    )
    tokens = memory()
    torch.testing.assert_close(forced(state, tokens, 0), chosen(state, tokens, 0))
    with pytest.raises(ValueError, match=r"backend must be one of .* got 'cuda'; change it"):
        DeformableAttention(16, 4, backend='cuda')

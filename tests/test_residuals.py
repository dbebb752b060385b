"""Residuals of a layer against their formulas, written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny
import torch
from memories import make_memory
from torch import Tensor, nn
from toy import data, lives, make

from mmdetr_plugin.build import build_slot
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.structures import Memory, State
from mmdetr_plugin.transformer.layers import TransformerLayer

WIDTH = 16
ATTENTION = {'num_heads': 2}
STEPS = {
    'EncoderLayer': {'self_attn': dict(type='SelfAttention', **ATTENTION)},
    'DecoderLayer': {
        'self_attn': dict(type='SelfAttention', **ATTENTION),
        'cross_attn': dict(type='CrossAttention', **ATTENTION),
    },
}
every_layer = pytest.mark.parametrize('kind', STEPS)


def layer_of(kind: str, dropout: float = 0.0, **residuals: object) -> TransformerLayer:
    torch.manual_seed(0)
    ffn = dict(type='FeedForward', hidden_dims=8, dropout=0.0)
    ops = {name: dict(op, dropout=0.0) for name, op in STEPS[kind].items()}
    cfg = dict(type=kind, **ops, ffn=ffn, **residuals)
    layer = build_slot(MODELS, cfg, 'layer', embed_dims=WIDTH, dropout=dropout)
    return tiny.randomise_(layer).double()


def state_and_memory() -> tuple[State, Memory]:
    torch.manual_seed(1)
    content, pos = torch.randn(2, 2, 5, WIDTH).double()
    return State(content, pos), make_memory(((3, 4),), WIDTH)


def steps(layer: TransformerLayer, state: State, memory: Memory) -> list[tuple]:
    """(what the step computes, its residual) of the ops and of the feed-forward part."""

    def attention(name: str) -> Callable[[Tensor], Tensor]:
        return lambda x: getattr(layer, name)(State(x, state.pos), memory, 0)

    names = layer.op_names
    ops = [(attention(name), getattr(layer, f'{name}_out')) for name in names]
    return [*ops, (layer.ffn, layer.ffn_out)]


def norm(x: Tensor, part: nn.Module) -> Tensor:
    """x to mean 0 and variance 1, then scaled and shifted by the part's parameters."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * part.norm.weight + part.norm.bias


def post_norm(x: Tensor, step: Callable, part: nn.Module) -> Tensor:
    return norm(x + step(x), part)


def pre_norm(x: Tensor, step: Callable, part: nn.Module) -> Tensor:
    return x + step(norm(x, part))


def gated_fusion(x: Tensor, step: Callable, part: nn.Module) -> Tensor:
    update = step(x)
    both = torch.cat((x, update), -1) @ part.gate.weight.T + part.gate.bias
    gates = 1 / (1 + torch.exp(-both))
    return norm(gates[..., :WIDTH] * x + gates[..., WIDTH:] * update, part)


FORMULAS = {'PostNorm': post_norm, 'PreNorm': pre_norm, 'GatedFusion': gated_fusion}


@every_layer
@pytest.mark.parametrize('residual', FORMULAS)
def test_formulas(kind: str, residual: str) -> None:
    layer = layer_of(kind, residual=dict(type=residual))
    state, memory = state_and_memory()
    x = state.content
    for step, part in steps(layer, state, memory):
        assert part.norm.weight.std() > 0
        x = FORMULAS[residual](x, step, part)
    torch.testing.assert_close(layer(state, memory, 0).content, x)


def test_post_norm_is_the_default() -> None:
    state, memory = state_and_memory()
    for kind in STEPS:
        default, stated = layer_of(kind), layer_of(kind, residual=dict(type='PostNorm'))
        got, expected = (layer(state, memory, 0).content for layer in (default, stated))
        assert torch.equal(got, expected)


def test_one_step_may_have_a_residual_of_its_own() -> None:
    """As in D-FINE, whose cross-attention alone is gated."""
    layer = layer_of('DecoderLayer', residuals=dict(cross_attn=dict(type='GatedFusion')))
    state, memory = state_and_memory()
    x = state.content
    formulas = (post_norm, gated_fusion, post_norm)
    for formula, (step, part) in zip(formulas, steps(layer, state, memory), strict=True):
        x = formula(x, step, part)
    torch.testing.assert_close(layer(state, memory, 0).content, x)
    with pytest.raises(
        ValueError, match=r"steps of the layer, \['self_attn', 'ffn'\], got \['cros"
    ):
        layer_of('EncoderLayer', residuals=dict(cross_attn=dict(type='GatedFusion')))


@every_layer
def test_dropout_is_of_the_update_alone(kind: str) -> None:
    """Where all of it is dropped the content stays, up to the norms."""
    state, memory = state_and_memory()
    layer = layer_of(kind, dropout=1.0, residual=dict(type='PreNorm')).train()
    assert torch.equal(layer(state, memory, 0).content, state.content)
    layer = layer_of(kind, dropout=1.0).train()
    x = state.content
    for _, part in steps(layer, state, memory):
        x = norm(x, part)
    torch.testing.assert_close(layer(state, memory, 0).content, x)


def test_gates_start_at_one_half() -> None:
    layer = dict(cross_attn=dict(type='CrossAttention', num_heads=2), self_attn=None)
    layer.update(ffn=None, residual=dict(type='GatedFusion'))
    model = make(decoder=dict(type='Decoder', num_layers=1, layer=layer))
    part = model.decoder.layers[0].cross_attn_out
    x, update = torch.randn(2, 1, 3, WIDTH)
    expected = norm((x + update) / 2, part)
    torch.testing.assert_close(part(x, update), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('residual', ['PreNorm', 'GatedFusion'])
def test_a_whole_model_learns(residual: str) -> None:
    attention = dict(type='SelfAttention', num_heads=2)
    layer = dict(
        self_attn=attention,
        ffn=dict(type='FeedForward', hidden_dims=8),
        residual=dict(type=residual),
    )
    cross = dict(cross_attn=dict(type='CrossAttention', num_heads=2))
    model = make(
        encoder=dict(type='Encoder', num_layers=2, layer=layer, norm=residual == 'PreNorm'),
        decoder=dict(type='Decoder', num_layers=2, layer={**layer, **cross}),
    )
    lives(model)
    optimizer = torch.optim.AdamW(model.train().parameters(), 1e-2)
    totals = []
    for _ in range(25):
        losses = model.loss(*data())
        total = sum(value for key, value in losses.items() if 'loss' in key)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.5 * totals[0]

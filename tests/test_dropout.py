"""Dropout and attention with dropout on the CPU: equal to a plain computation with the same mask."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmdetr_plugin.attention.base import attend
from mmdetr_plugin.ops import attention
from mmdetr_plugin.ops.attention import attend_blocks, takes_blocks
from mmdetr_plugin.ops.dropout import Dropout, draw_seed, dropout, kept, kept_share

BATCH, HEADS, QUERIES, KEYS, DEPTH = 2, 3, 37, 21, 8


def tensors(value_depth: int = DEPTH, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q, k and v by heads, laid out as projections are, in which heads come last."""
    torch.manual_seed(0)
    shapes = ((QUERIES, DEPTH), (KEYS, DEPTH), (KEYS, value_depth))
    out = [torch.randn(BATCH, n, HEADS, d, dtype=dtype).transpose(1, 2) for n, d in shapes]
    return [x.requires_grad_() for x in out]


def masks() -> dict[str, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    padding = torch.rand(BATCH, 1, 1, KEYS, generator=generator) > 0.3
    pairs = torch.rand(1, 1, QUERIES, KEYS, generator=generator) > 0.3
    added = torch.randn(BATCH, HEADS, QUERIES, KEYS, generator=generator, dtype=torch.float64)
    return {
        'none': None,
        'padding': padding,
        'pairs': pairs,
        'added': added,
        'row': added[:, :, :1],
    }


def test_elements_are_kept_with_the_stated_probability() -> None:
    keep = kept((1000, 1001), 0.3, seed=5)
    assert keep.dtype == torch.bool and keep.shape == (1000, 1001)
    assert kept_share(0.3) == pytest.approx(0.7, abs=1e-5)
    assert keep.float().mean() == pytest.approx(0.7, abs=3e-3)
    assert torch.equal(keep, kept((1000, 1001), 0.3, seed=5))
    assert not torch.equal(keep, kept((1000, 1001), 0.3, seed=6))
    rows = keep.float().mean(1)
    assert rows.std() == pytest.approx((0.3 * 0.7 / 1001) ** 0.5, rel=0.15)  # independent


def test_kept_values_are_scaled_and_gradients_pass_there_alone() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 33, requires_grad=True)
    out = dropout(x, 0.25)
    keep = out != 0
    assert 0.6 < keep.float().mean() < 0.9
    assert torch.allclose(out[keep], x[keep] / 0.75)
    out.sum().backward()
    assert torch.allclose(x.grad, keep / 0.75)


def test_dropout_follows_the_seed_and_the_mode() -> None:
    module, x = Dropout(0.5), torch.randn(40, 40)
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(module(x))
    assert torch.equal(*results)
    assert not torch.equal(results[0], module(x))
    assert torch.equal(module.eval()(x), x)
    assert torch.equal(dropout(x, 0.0), x) and not dropout(x, 1.0).any()
    assert isinstance(module, nn.Dropout)


def test_checkpointing_drops_the_same_again() -> None:
    x = torch.randn(30, 30, requires_grad=True)
    layer = nn.Sequential(nn.Linear(30, 30), Dropout(0.5))
    torch.manual_seed(4)
    (plain,) = torch.autograd.grad(layer(x).square().sum(), x)
    torch.manual_seed(4)
    out = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
    draw_seed()
    (again,) = torch.autograd.grad(out.square().sum(), x)
    assert torch.allclose(plain, again)


@pytest.mark.parametrize('depth', [DEPTH, DEPTH // 2])
@pytest.mark.parametrize('kind', masks())
@pytest.mark.parametrize('block', [2**20, 16 * KEYS * BATCH * HEADS])
def test_blocks_equal_attention_with_that_mask(
    kind: str, depth: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, 'BLOCK', block)
    drawn = []

    def remember(*args: object) -> Tensor:
        drawn.append(kept(*args))
        return drawn[-1]

    monkeypatch.setattr(attention, 'kept', remember)
    q, k, v = inputs = tensors(depth)
    mask = masks()[kind]
    out = attend_blocks(*inputs, mask, 0.4)
    assert len(drawn) == -(-QUERIES // 16) if block < 2**20 else 1
    keep = torch.cat(drawn, 1).view(BATCH, HEADS, QUERIES, KEYS)
    scores = q @ k.transpose(-1, -2) / DEPTH**0.5
    if mask is not None:
        added = mask.dtype != torch.bool
        scores = scores + mask if added else scores.masked_fill(~mask, -torch.inf)
    expected = (scores.softmax(-1) * keep / kept_share(0.4)) @ v
    assert torch.allclose(out, expected)
    weights = torch.randn_like(out)
    got = torch.autograd.grad((out * weights).sum(), inputs)
    wanted = torch.autograd.grad((expected * weights).sum(), inputs)
    assert all(torch.allclose(a, b) for a, b in zip(got, wanted))


def test_attention_is_right_on_average() -> None:
    q, k, v = (x.detach().float() for x in tensors())
    torch.manual_seed(0)
    mean = sum(attend(q, k, v, dropout=0.2) for _ in range(400)) / 400
    exact = attend(q, k, v)
    assert (mean - exact).abs().mean() < 0.02 and not torch.equal(
        attend(q, k, v, dropout=0.2), exact
    )


def test_other_calls_are_left_to_torch() -> None:
    q, _, _ = tensors(dtype=torch.float32)
    learned = torch.zeros(1, 1, QUERIES, KEYS, requires_grad=True)
    assert takes_blocks(q, None, 0.1) and takes_blocks(q, learned.detach(), 0.1)
    assert not takes_blocks(q, learned, 0.1)
    assert not takes_blocks(q, None, 0.0) and not takes_blocks(q, None, 1.0)
    assert not takes_blocks(q.bfloat16(), None, 0.1)
    assert not takes_blocks(q.to('meta'), None, 0.1)
    with torch.autocast('cpu', torch.bfloat16):
        assert not takes_blocks(q, None, 0.1)
    compiled = torch.compile(lambda x: dropout(x, 0.5), backend='eager', fullgraph=True)
    assert 0.2 < (compiled(torch.ones(50, 50)) == 0).float().mean() < 0.8

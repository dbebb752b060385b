"""Adaptive clustering: the official op's clusters, outputs and gradients; its use without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from mmdetr_plugin.attention import AdaptiveClusteringAttention
from mmdetr_plugin.attention.clustering import clustered_attention
from mmdetr_plugin.ops.clustering import Clusters, cluster, hash_values
from mmdetr_plugin.structures import State

GOLDEN = np.load(Path(__file__).parent / 'parity/ops/act.npz')
CLUSTERED = {'type': 'AdaptiveClusteringAttention'}
VARIANTS = ('detr_r50', 'conditional_detr_r50', 'dab_detr_r50', 'smca_detr_r50', 'sam_detr_r50')


def arrays(case: str) -> dict[str, Tensor]:
    inputs = {n[3:]: GOLDEN[n] for n in GOLDEN.files if n.startswith('L8/')}
    if case == 'L8K':
        inputs = {n: x for n, x in inputs.items() if not n.startswith(('grad', 'out', 'key_pad'))}
        inputs |= {n[4:]: GOLDEN[n] for n in GOLDEN.files if n.startswith('L8K/')}
    elif case == 'L32':
        inputs = {n[4:]: GOLDEN[n] for n in GOLDEN.files if n.startswith('L32/')}
    return {name: torch.from_numpy(value) for name, value in inputs.items()}


def clusters(given: dict[str, Tensor], kind: str) -> Clusters:
    vectors = given['queries' if kind == 'q' else 'keys']
    return cluster(hash_values(vectors, given['hash_vectors'], given['hash_bias']))


@pytest.mark.parametrize('case', ['L8', 'L32', 'L8K'])
def test_clusters_are_the_official_ones(case: str) -> None:
    given = arrays(case)
    values = hash_values(given['queries'], given['hash_vectors'], given['hash_bias'])
    assert torch.equal(values, given['hash'])
    for kind in ('q', 'k') if case == 'L8K' else ('q',):
        made = clusters(given, kind)
        assert torch.equal(made.index, given[f'{kind}_cluster'].long())
        assert torch.equal(made.counts, given[f'{kind}_count'].long())


@pytest.mark.parametrize('case', ['L8', 'L32', 'L8K'])
def test_outputs_and_gradients_are_the_official_ones(case: str) -> None:
    given = arrays(case)
    q, k, v = (given[n].clone().requires_grad_() for n in ('queries', 'keys', 'values'))
    mask = None
    if 'key_padding_mask' in given:
        mask = ~given['key_padding_mask'].repeat_interleave(2, 0)[:, None]
    keys = clusters(given, 'k') if case == 'L8K' else None
    scale = q.shape[-1] ** 0.5  # the given queries are divided by it already
    out = clustered_attention(q * scale, k, v, clusters(given, 'q'), mask, keys)
    torch.testing.assert_close(out, given['out'], rtol=0, atol=1e-4)
    if 'grad_q' in given:
        out.backward(given['cotangent'])
        for leaf, name in ((q, 'q'), (k, 'k'), (v, 'v')):
            torch.testing.assert_close(leaf.grad, given[f'grad_{name}'], rtol=0, atol=1e-4)


def test_clusters_of_single_queries_are_exact_attention() -> None:
    exact = tiny.build('detr_r50')
    op = AdaptiveClusteringAttention(tiny.WIDTH, 8, 0.0, q_hashes=32)
    reference = exact.encoder.layers[0].self_attn.double()
    op.double().load_state_dict(reference.state_dict())
    content, pos = 40 * torch.randn(2, 2, 30, tiny.WIDTH, dtype=torch.float64)
    mask = torch.ones(2, 1, 1, 30, dtype=torch.bool)
    mask[1, ..., 20:] = False
    state = State(content, pos, self_mask=mask)
    torch.testing.assert_close(op(state, None, 0), reference(state, None, 0))


@pytest.mark.parametrize('name', VARIANTS)
def test_a_trained_model_takes_it_without_training(name: str) -> None:
    """The same weights under the same names, and outputs near those of exact attention."""
    exact = tiny.build(name)
    cfg = tiny.load(name).model
    cfg.encoder.layer.self_attn.update(CLUSTERED)
    model = tiny.MODELS.build(tiny.shrink(cfg)).eval()
    model.load_state_dict(exact.state_dict())
    with torch.no_grad():
        ours, theirs = (m(*tiny.batch(), mode='tensor')['pred_boxes'] for m in (model, exact))
    assert not torch.equal(ours, theirs)
    assert (ours - theirs).abs().max() < 0.1
    losses = model.loss(*tiny.batch())
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.encoder.parameters())


def test_more_rounds_make_more_clusters() -> None:
    vectors = 10 * torch.randn(4, 200, 32)
    numbers = [
        AdaptiveClusteringAttention.clusters(vectors, rounds).counts.shape[1]
        for rounds in (1, 4, 16)
    ]
    assert numbers == sorted(numbers) and numbers[0] < numbers[2]


def test_what_cannot_be_clustered_is_an_error() -> None:
    op = AdaptiveClusteringAttention(32, 8, k_hashes=4)
    content = torch.randn(1, 5, 32)
    with pytest.raises(ValueError, match='images without padding'):
        op(State(content, self_mask=torch.ones(1, 1, 1, 5, dtype=torch.bool)), None, 0)
    with pytest.raises(ValueError, match=r'a mask of keys alone.*\(1, 1, 5, 5\)'):
        op(State(content, self_mask=torch.ones(1, 1, 5, 5, dtype=torch.bool)), None, 0)
    op = AdaptiveClusteringAttention(32, 8, q_hashes=33)
    with pytest.raises(ValueError, match='between 1 and 32, got 33'):
        op(State(content), None, 0)

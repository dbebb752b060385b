"""Adaptive clustering: the official op's clusters, outputs and gradients; its use without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from cli import TOOLS, run_python
from mmengine.runner import Runner
from torch import Tensor

from mmdetr_plugin.attention import AdaptiveClusteringAttention
from mmdetr_plugin.attention.clustering import clustered_attention
from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.ops.clustering import Clusters, cluster, hash_values
from mmdetr_plugin.structures import State
from mmdetr_plugin.testing.digits_training import DigitsTraining

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


# ---- distillation -------------------------------------------------------------------------------

SOFT = {
    f'loss_soft_{kind.lower()}': {'type': f'Distillation{kind}Loss'}
    for kind in ('Class', 'Box', 'Feature')
}


@pytest.fixture
def student(tmp_path: Path) -> torch.nn.Module:
    """A model that clusters, with itself as teacher but for the clusters."""
    exact = tiny.build('detr_r50')
    model = tiny.load('detr_r50').model
    torch.save({'state_dict': exact.state_dict()}, tmp_path / 'teacher.pth')
    tiny.Config({'model': tiny.shrink(model)}).dump(tmp_path / 'teacher.py')
    model.criterion.losses.update(SOFT)
    model.teacher = {f: str(tmp_path / f'teacher.{e}') for f, e in FILES}
    made = tiny.MODELS.build(tiny.shrink(model)).eval()
    made.load_state_dict(exact.state_dict())
    return made


FILES = (('config', 'py'), ('checkpoint', 'pth'))


def test_a_model_with_its_teachers_weights_has_nothing_to_learn(student: torch.nn.Module) -> None:
    losses = student.loss(*tiny.batch())
    soft = {k: float(v) for k, v in losses.items() if 'loss_soft' in k}
    assert set(soft) == {p + name for p in ('', 'd0.') for name in SOFT}
    assert all(abs(value) < 1e-6 for value in soft.values())
    assert not [name for name in student.state_dict() if 'teacher' in name]


def test_what_differs_from_the_teacher_is_trained(student: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in student.encoder.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    losses = student.loss(*tiny.batch())
    soft = [v for k, v in losses.items() if 'loss_soft' in k]
    assert all(value > 0 for value in soft)
    sum(soft).backward()
    assert all(p.grad is not None for p in student.encoder.parameters())
    assert all(p.grad is None for p in student.teacher.model.parameters())


def test_a_teacher_with_other_queries_is_an_error(student: torch.nn.Module) -> None:
    embedding = student.queries.embedding
    student.queries.embedding = torch.nn.Embedding(7, embedding.embedding_dim)
    student.queries.num_queries = 7
    with pytest.raises(ValueError, match='layers, queries and classes of the model'):
        student.loss(*tiny.batch())


@pytest.mark.slow
def test_the_benchmark_evaluates_a_trained_model(tmp_path: Path) -> None:
    make_digits(tmp_path / 'data', num_train=8, num_val=2, size=64)
    training = DigitsTraining(tmp_path / 'data', tmp_path, 1, 1, 8, 64, 1e-4, 0, workers=0)
    cfg = training.config('detr_r50')
    Runner.from_cfg(cfg).train()
    checkpoint = tmp_path / 'detr_r50/epoch_1.pth'
    config = next(checkpoint.parent.glob('*.py'))
    words = ['--trained', config, checkpoint, '--rounds', 8]
    printed = run_python(TOOLS / 'benchmarks/clustering.py', *words, cwd=tmp_path)
    assert '| exact | ' in printed and '| 8 rounds | ' in printed

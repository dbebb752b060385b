"""The benchmarks run end to end at a tiny size, refuse unequal results and say what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli import ROOT, TOOLS, load, run_python
from torch import Tensor, nn

from mmdetr_plugin.testing import benchmark
from mmdetr_plugin.testing.products import PRODUCTS, Products

BENCHMARKS = TOOLS / 'benchmarks'

TINY = ['--threads', 1, '--repeats', 1]
IMAGE = ['--small', '--size', 64, 96]
RUNS = {
    'matching.py': ['--batch', 2, '--layers', 2, '--queries', 12, '--objects', 3],
    'attention.py': ['--tokens', 40],
    'linear.py': ['--tokens', 40, '--inputs', 16, '--outputs', 32],
    'train_step.py': ['detr_r50', *IMAGE],
    'inference.py': ['conditional_detr_r50', *IMAGE, '--precision', 'fp32', 'bf16'],
    'scaling.py': ['deformable_detr_r50', '--small', '--sides', 64, 128, '--plot', 'curves.png'],
    'evaluation.py': ['--images', 4, '--classes', 3, '--detections', 20],
}
PEERS = {'evaluation.py': ('pycocotools', 'faster-coco-eval'), 'linear.py': ('torch', 'ours')}


@pytest.mark.slow
@pytest.mark.parametrize('script', RUNS)
def test_script_prints_its_table_and_writes_its_figures(script: str, tmp_path: Path) -> None:
    if script == 'evaluation.py':
        pytest.importorskip('faster_coco_eval', reason='the extra eval is not installed')
    words = [*RUNS[script], *TINY, '--json', 'out.json']
    printed = run_python(BENCHMARKS / script, *words, cwd=tmp_path)
    content = json.loads((tmp_path / 'out.json').read_text())
    assert f'tools/benchmarks/{script}' in content['command']
    assert f'torch {torch.__version__}' in content['machine'] and '1 threads' in content['machine']
    peer, ours = PEERS.get(script, ('mmdet', 'ours'))
    assert content['rows'][0]['who'] == peer and content['rows'][0]['ratio'] == 1
    for first, second in zip(content['rows'][::2], content['rows'][1::2], strict=True):
        assert first['who'].split()[0] == peer and second['who'].startswith(ours)
        assert second['median_ms'] > 0 and second['difference'] is not None
        assert f'| {second["case"]} ' in printed
    if script == 'scaling.py':
        assert (tmp_path / 'curves.png').stat().st_size > 5000
        assert 'time ~ (HW)^' in printed


def test_products_are_kept_with_those_of_the_backward_pass() -> None:
    layer, conv = nn.Linear(8, 6), nn.Conv2d(3, 8, 3)
    x = torch.randn(2, 3, 5, 5, requires_grad=True)

    def run() -> Tensor:
        tokens = conv(x).flatten(2).mT
        return (layer(tokens) @ layer.weight).relu().sum()

    with Products() as products:
        run().backward()
    names = {func.overloadpacket.__name__ for func, *_ in products.found}
    assert {'convolution', 'convolution_backward'} <= names
    assert names <= PRODUCTS and sum(p.count for p in products.found.values()) >= 8
    grads = [p.grad.clone() for p in (layer.weight, conv.weight)]
    assert products.seconds(repeats=2) > 0
    assert all(map(torch.equal, grads, (layer.weight.grad, conv.weight.grad))), 'nothing is changed'


@pytest.mark.slow
def test_each_run_has_its_limit(tmp_path: Path) -> None:
    words = ['detr_r50', '--small', '--size', 64, 96, '--threads', 1, '--repeats', 2]
    words += ['--json', 'out.json', '--profile']
    printed = run_python(BENCHMARKS / 'limit.py', *words, cwd=tmp_path)
    rows = json.loads((tmp_path / 'out.json').read_text())
    assert printed.count('| others ') == 2 and '_linear_pointwise' in printed
    assert [row['case'].split(',')[0] for row in rows] == ['inference', 'training']
    assert all(row['products'] > 0 and row['seconds'] > 0 for row in rows)
    assert all(row['case'] in printed for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize('script', sorted(set(RUNS) - {'evaluation.py'}))
def test_scripts_run_up_to_the_missing_gpu(script: str, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip('there is a GPU here')
    printed = run_python(BENCHMARKS / script, '--device', 'cuda', cwd=tmp_path, code=2)
    assert '--device cuda needs a GPU that torch can use' in printed


@pytest.mark.slow
def test_latency_keeps_what_it_has_measured(tmp_path: Path) -> None:
    words = ['rt_detr_r18', '--threads', 1, '--repeats', 1, '--json', 'a.json', '--plot', 'a.png']
    printed = run_python(BENCHMARKS / 'latency.py', *words, cwd=tmp_path)
    first = json.loads((tmp_path / 'a.json').read_text())['models']
    assert '| `rt_detr_r18` | 640 x 640' in printed and (tmp_path / 'a.png').stat().st_size > 5000
    run_python(BENCHMARKS / 'latency.py', 'rf_detr_nano', *words[1:], cwd=tmp_path)
    both = json.loads((tmp_path / 'a.json').read_text())['models']
    assert both['rt_detr_r18'] == first['rt_detr_r18']
    assert (both['rf_detr_nano']['height'], both['rf_detr_nano']['width']) == (384, 384)


def test_the_page_has_the_latency_of_every_published_model() -> None:
    latency = load(BENCHMARKS / 'latency.py')
    known = latency.published()
    measured = json.loads((ROOT / 'docs' / 'latency.json').read_text())['models']
    assert measured.keys() == known.keys()
    page = (ROOT / 'docs' / 'performance.md').read_text()
    for cells in latency.rows(measured, known):
        assert f'| {" | ".join(cells)} |\n' in page


def test_lines_join_the_models_that_no_faster_one_surpasses() -> None:
    best = load(BENCHMARKS / 'latency.py').best
    assert best([(3, 2), (1, 1), (2, 0.5), (3, 3)]) == [(1, 1), (3, 3)]


def contest(*words: str) -> benchmark.Contest:
    options = benchmark.parser('Title.\n\nMore.')
    return benchmark.Contest(benchmark.parse(options, ['--repeats', '2', *words]))


def test_runs_take_turns_and_the_order_turns_round() -> None:
    calls = []

    def run(name: str) -> benchmark.Result:
        calls.append(name)
        return {'out': torch.ones(2)}

    both = contest()
    both.compare('case', {'peer': lambda: run('peer'), 'ours': lambda: run('ours')}, memory=False)
    assert calls[-4:] == ['peer', 'ours', 'ours', 'peer']
    peer, ours = both.rows
    assert (peer.who, ours.who, ours.difference, ours.peak_mib) == ('peer', 'ours', 0.0, None)
    assert ours.ratio == pytest.approx(peer.median_ms / ours.median_ms)


def test_an_interrupted_call_keeps_its_figures(tmp_path: Path) -> None:
    calls = []

    def run(name: str) -> benchmark.Result:
        calls.append(name)
        return {'out': torch.ones(2)}

    def compare(case: str, *names: str) -> benchmark.Contest:
        calls.clear()
        both = contest('--json', str(tmp_path / 'a.json'), '--keep')
        both.compare(case, {name: lambda name=name: run(name) for name in names}, memory=False)
        return both

    first = compare('one', 'peer', 'ours').rows
    assert compare('one', 'peer', 'ours').rows == first and not calls
    compare('one', 'peer', 'ours fp16')
    assert set(calls) == {'peer', 'ours fp16'}
    compare('two', 'peer', 'ours')
    written = json.loads((tmp_path / 'a.json').read_text())['rows']
    assert [row['case'] for row in written] == ['one'] * 4 + ['two'] * 2


@pytest.mark.parametrize(
    ('name', 'size', 'change', 'fails'),
    [
        ('out', 1.0, 9e-5, False),
        ('out', 1.0, 2e-4, True),
        ('out', 300.0, 2e-2, False),  # relative above 1
        ('out', 1.0, float('nan'), True),
        ('grad x', 1e-3, 9e-7, False),
        ('grad x', 1e-3, 2e-6, True),
    ],
)
def test_unequal_results_are_refused(name: str, size: float, change: float, fails: bool) -> None:
    runs = {
        'peer': lambda: {name: torch.full((3,), size)},
        'ours': lambda: {name: torch.full((3,), size + change)},
    }
    if not fails:
        assert benchmark.agreement('case', runs, 1e-4)['ours'] > 0
        return
    with pytest.raises(ValueError, match=r'of ours must be within .* of peer, got a difference'):
        benchmark.agreement('case', runs, 1e-4)


def test_one_gradient_may_be_worse_than_all_together() -> None:
    def grads(change: float) -> benchmark.Result:
        return {'grad a': torch.full((100,), 10.0), 'grad b': torch.full((1,), 1 + change)}

    runs = {'peer': lambda: grads(0.0), 'ours': lambda: grads(5e-3)}
    assert benchmark.agreement('case', runs, 1e-4)['ours'] < 1e-3
    with pytest.raises(ValueError, match='grad b of ours'):
        benchmark.agreement('case', {**runs, 'ours': lambda: grads(5e-2)}, 1e-4)
    with pytest.raises(ValueError, match='must return the same names'):
        benchmark.agreement('case', {**runs, 'ours': lambda: {'grad a': torch.ones(1)}}, 1e-4)


def test_memory_of_a_run_is_its_highest_point() -> None:
    def run() -> benchmark.Result:
        for _ in range(3):
            torch.zeros(2**18).add(1)  # two tensors of 1 MiB at a time
        return {'out': torch.zeros(1)}

    assert 2 * 2**20 <= benchmark.cpu_peak(run) < 2.1 * 2**20


def test_dropout_is_off_inside_and_back_outside() -> None:
    model = nn.Sequential(nn.Dropout(0.3), nn.MultiheadAttention(8, 2, dropout=0.2))
    with benchmark.without_dropout(model):
        assert model[0].p == 0 and model[1].dropout == 0
    assert model[0].p == 0.3 and model[1].dropout == 0.2


def test_wrong_options_are_explained(capsys: pytest.CaptureFixture) -> None:
    for words, message in (
        (['--repeats', '0'], 'must be at least 1'),
        (['--device', 'cuda'], 'GPU'),
    ):
        if words[0] == '--device' and torch.cuda.is_available():
            continue
        with pytest.raises(SystemExit):
            benchmark.parse(benchmark.parser('x'), words)
        assert message in capsys.readouterr().err


def test_growth_is_the_power_of_the_area() -> None:
    def row(side: int, power: float) -> benchmark.Row:
        area = float(side) ** (2 * power)
        return benchmark.Row(f'detr_r50, {side}', 'ours', area, area, 1.0, 3 * area, 0.0)

    printed = load(BENCHMARKS / 'scaling.py').growth([row(256, 2.0), row(512, 2.0), row(1024, 2.0)])
    assert '| detr_r50, ours | 512 to 1024 | 2.00' in printed

"""Threads on a busy machine: how many compute, how they wait, and what the tools set."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cli import ROOT, TOOLS, load, run, run_python
from mmengine.config import Config

from mmdetr_plugin.engine import threads
from mmdetr_plugin.engine.hooks import SharedThreadsHook
from mmdetr_plugin.engine.threads import WAITING, Clocks, SharedThreads, share_of_time, wanted

SETTINGS = ('OMP_WAIT_POLICY', *WAITING)
COMPUTING = sorted(
    file for file in TOOLS.rglob('*.py') if "os.environ.setdefault('GOMP" in file.read_text()
)
CHANGES = """
import os, runpy, sys
import importlib.abc
class Stop(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name.partition('.')[0] in ('torch', 'mmdetr_plugin', 'numpy', 'cv2', 'mmengine', 'mmdet'):
            print({name: os.environ.get(name) for name in SETTINGS})
            os._exit(0)
sys.meta_path.insert(0, Stop())
runpy.run_path(sys.argv[1])
"""


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


# --- the number of threads ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('now', 'share', 'idle', 'then'),
    [
        (4, 0.95, 0.0, 4),  # what a quiet machine gives
        (4, 0.5, 0.0, 2),
        (2, 0.25, 0.0, 1),
        (1, 0.1, 0.0, 1),  # never none
        (1, 0.99, 0.5, 1),
        (1, 0.99, 0.9, 2),  # the other work has ended
        (1, 1.0, 8.0, 4),  # never more than at first
        (2, 0.5, 3.0, 1),  # waiting although some are idle: not more
    ],
)
def test_threads_are_as_many_as_get_processors(
    now: int, share: float, idle: float, then: int
) -> None:
    assert wanted(now, 4, share, idle) == then


def test_the_share_counts_new_threads_and_forgets_ended_ones() -> None:
    before = Clocks(0.0, {'1': (10.0, 1.0), '2': (5.0, 5.0)}, 0.0)
    now = Clocks(2.0, {'1': (11.0, 1.5), '3': (1.0, 0.5)}, 0.0)
    assert share_of_time(before, now) == pytest.approx(2 / 3)
    assert share_of_time(now, now) == 1.0


def test_linux_counts_what_this_process_runs() -> None:
    before = threads.read_clocks()
    if before is None:
        pytest.skip('this system does not count how long threads wait')
    sum(range(10**6))
    now = threads.read_clocks()
    assert now.at > before.at and now.idle >= before.idle
    main = str(os.getpid())
    assert now.tasks[main][0] > before.tasks[main][0] and 0 < share_of_time(before, now) <= 1


def clocks_of(monkeypatch: pytest.MonkeyPatch, *spent: tuple[float, float, float]) -> None:
    """Of one thread; in each interval of a second it ran, waited, and processors were idle."""
    sums = zip(*(itertools.accumulate(column, initial=0.0) for column in zip(*spent)))
    series = iter([Clocks(-100.0 + i, {'1': s[:2]}, s[2]) for i, s in enumerate(sums)])
    monkeypatch.setattr(threads, 'read_clocks', lambda: next(series))


def test_threads_follow_the_load(monkeypatch: pytest.MonkeyPatch, four_threads: None) -> None:
    clocks_of(monkeypatch, (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.3, 0.7, 0.0), (1.0, 0.0, 3.2))
    shared, numbers = SharedThreads(interval=0.0), []
    shares = []
    for _ in range(4):
        shares.append(shared.adapt())
        numbers.append(torch.get_num_threads())
    assert numbers == [4, 2, 1, 4]
    assert shares == pytest.approx([None, 0.5, 0.3, 1.0])


def test_it_looks_at_the_load_once_in_an_interval(
    monkeypatch: pytest.MonkeyPatch, four_threads: None
) -> None:
    shared = SharedThreads(interval=1e9)
    monkeypatch.setattr(threads, 'read_clocks', lambda: pytest.fail('too early'))
    assert shared.adapt() is None


def test_systems_that_count_nothing_keep_their_threads(
    monkeypatch: pytest.MonkeyPatch, four_threads: None
) -> None:
    monkeypatch.setattr(threads, 'TASKS', Path('/no/such/folder'))
    assert SharedThreads(interval=0.0).adapt() is None
    assert torch.get_num_threads() == 4


def runner(**model: object) -> SimpleNamespace:
    said: list[str] = []
    logger = SimpleNamespace(info=said.append)
    return SimpleNamespace(cfg=Config({'model': model}), logger=logger, said=said)


def after_one_step(runner: SimpleNamespace) -> int:
    hook = SharedThreadsHook(interval=0.0)
    hook.before_run(runner)
    hook.after_train_iter(runner, 0)
    number = torch.get_num_threads()
    hook.after_run(runner)
    return number


def test_the_hook_says_what_it_changes(monkeypatch: pytest.MonkeyPatch, four_threads: None) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    clocks_of(monkeypatch, (1.0, 1.0, 0.0))
    run = runner()
    assert after_one_step(run) == 2 and torch.get_num_threads() == 4
    assert run.said == [
        '2 threads from here: they ran for 50 % of the time in which they could have run'
    ]


@pytest.mark.parametrize('reason', ['number', 'gpu', 'deterministic', 'compiled'])
def test_the_hook_leaves_a_fixed_number(
    reason: str, monkeypatch: pytest.MonkeyPatch, four_threads: None
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: reason == 'gpu')
    deterministic = reason == 'deterministic'
    monkeypatch.setattr(torch, 'are_deterministic_algorithms_enabled', lambda: deterministic)
    if reason == 'number':
        monkeypatch.setenv('OMP_NUM_THREADS', '4')
    clocks_of(monkeypatch, (1.0, 1.0, 0.0))
    assert after_one_step(runner(**({'compile': {}} if reason == 'compiled' else {}))) == 4


def test_every_run_has_the_hook() -> None:
    cfg = Config.fromfile(ROOT / 'configs' / 'digits_dino.py')
    assert cfg.default_hooks.threads.type == f'mmdetr_plugin.{SharedThreadsHook.__name__}'


# --- how they wait --------------------------------------------------------------------------------


def test_the_tools_that_compute_for_long_are_among_them() -> None:
    names = {file.stem for file in COMPUTING}
    assert {'train', 'test', 'predict', 'demo', 'overfit', 'convergence', 'finetune'} <= names


@pytest.mark.parametrize('script', COMPUTING, ids=lambda script: script.stem)
def test_tools_set_what_the_user_has_not_before_anything_is_loaded(
    script: Path, tmp_path: Path
) -> None:
    def settings(**environment: str) -> dict[str, str | None]:
        words = ['env', *(f'--unset={name}' for name in SETTINGS), sys.executable, '-c', changes]
        cleared = [*words[:-3], *(f'{k}={v}' for k, v in environment.items()), *words[-3:]]
        return json.loads(
            run([*cleared, script], tmp_path).replace("'", '"').replace('None', 'null')
        )

    changes = CHANGES.replace('SETTINGS', repr(SETTINGS))
    assert settings() == {'OMP_WAIT_POLICY': None, **WAITING}
    assert settings(GOMP_SPINCOUNT='7') == {'OMP_WAIT_POLICY': None, 'GOMP_SPINCOUNT': '7'}
    passive = settings(OMP_WAIT_POLICY='passive')
    assert passive == {'OMP_WAIT_POLICY': 'passive', 'GOMP_SPINCOUNT': None}


def test_the_page_says_it_for_scripts_of_users() -> None:
    page = (ROOT / 'docs/training.md').read_text()
    for name, value in WAITING.items():
        assert re.search(rf'export {name}={value}\b', page)


def test_importing_the_package_changes_no_variable(tmp_path: Path) -> None:
    names = (*SETTINGS, 'OMP_NUM_THREADS', 'KMP_BLOCKTIME')
    state = f'[os.environ.get(name) for name in {names}]'
    code = f'import os; before = {state}; import mmdetr_plugin.components; print(before == {state})'
    assert run([sys.executable, '-W', 'ignore', '-c', code], tmp_path).endswith('True\n')


# --- the doctor and the benchmark -----------------------------------------------------------------

doctor = load(TOOLS / 'doctor.py')
busy = load(TOOLS / 'benchmarks/busy.py')


def test_the_doctor_reports_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, 'openmp_library', lambda: 'libgomp')
    for name in (*doctor.WAITS, 'OMP_NUM_THREADS'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, 'getloadavg', lambda: (99.0, 0, 0))
    number, waiting = doctor.threads()
    assert 'load 99.0' in number.value and 'training uses fewer threads' in number.remedy
    assert waiting.state == doctor.NOTE and 'export GOMP_SPINCOUNT=20000' in waiting.remedy
    monkeypatch.setenv('OMP_WAIT_POLICY', 'passive')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    number, waiting = doctor.threads()
    assert number.value.endswith('fixed by OMP_NUM_THREADS') and not number.state
    assert waiting == doctor.Row('waiting threads', 'libgomp, OMP_WAIT_POLICY=passive')


def test_other_libraries_have_other_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in doctor.WAITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor, 'openmp_library', lambda: 'libiomp5')
    assert 'try KMP_BLOCKTIME=0' in list(doctor.threads())[1].remedy


def test_the_benchmark_measures_and_adds_rounds(tmp_path: Path) -> None:
    policy, file = 'GOMP_SPINCOUNT=1000,OMP_NUM_THREADS=1', tmp_path / 'busy.json'
    rows = [
        {'policy': p, 'alone': [4.0], 'beside': [1.0], 'loop': [0.5]} for p in ('plain', policy)
    ]
    file.write_text(json.dumps({'rows': rows}))
    words = [policy, '--small', '--others', 1, '--seconds', 0.1, '--settle', 0, '--rounds', 1]
    printed = run_python(TOOLS / 'benchmarks/busy.py', *words, '--json', file, cwd=tmp_path)
    content = json.loads(file.read_text())
    assert f'tools/benchmarks/busy.py {policy}' in content['command']
    plain, measured = content['rows']
    assert plain == rows[0] and '| `plain`' in printed
    for name in ('alone', 'beside', 'loop'):
        first, second = measured[name]
        assert first == rows[1][name][0] and second > 0


def test_shares_are_those_of_the_best_rate_alone() -> None:
    figures = busy.Figures('plain', [4.0, 5.0, 3.0], [1.0, 0.5, 2.0], [0.25, 0.5, 0.4])
    assert figures.cells(best=5.0) == ['`plain`', '4.00', '1.00', '20%', '40%', '50%']


def test_the_benchmark_refuses_what_is_no_policy(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        busy.main(['passive', '--small'])
    expected = "a policy must be tools, plain or NAME=VALUE,..., got 'passive'"
    assert expected in capsys.readouterr().err

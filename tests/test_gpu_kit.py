"""`tools/benchmarks/gpu.sh`: its commands, how it continues, and its stages, small, on the CPU."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

import pytest
import torch
from cli import ROOT, TOOLS, load, run, run_python

KIT = TOOLS / 'benchmarks' / 'gpu.sh'
TRIAL = ('--device', 'cpu', '--small')
STAGES = {
    'build': 'Steps',
    'tests': 'Tests',
    'attention': 'Deformable attention',
    'training': 'Matching and losses',
    'inference': 'Inference',
    'compiled': 'Inference, torch.compile',
    'amp': 'Training with mixed precision',
    'demo': 'Demo',
    'latency': 'Latency',
    'convergence': 'Convergence',
}
"""Stages in order, and the title of a table that each of them fills."""
tables = load(TOOLS / 'benchmarks' / 'tables.py')


class ParsedError(Exception):
    """Raised in the place of what a command does after its arguments are read."""


def commands(out: Path, *options: object) -> dict[str, list[list[str]]]:
    """Stages, and the words of their steps after the interpreter."""
    stages: dict[str, list[list[str]]] = {}
    for line in run(['bash', KIT, out, '--list', *options], ROOT).splitlines():
        stage, _, words = line.split('\t')
        stages.setdefault(stage, []).append(shlex.split(words))
    return stages


@pytest.mark.parametrize('options', [(), TRIAL], ids=['gpu', 'trial'])
def test_every_command_can_be_read(
    options: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = argparse.ArgumentParser.parse_args

    def only_parse(parser: argparse.ArgumentParser, words: list[str] | None = None) -> None:
        parse(parser, words)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', only_parse)
    (tmp_path / 'wheels').mkdir()
    (tmp_path / 'wheels' / 'addict-2.4.0-py3-none-any.whl').touch()
    stages = commands(tmp_path / 'out', '--wheels', tmp_path / 'wheels', *options)
    assert list(stages) == list(STAGES) and not (tmp_path / 'out').exists()
    for words in (words for steps in stages.values() for words in steps):
        if words[0] == '-m':
            assert words[1] in ('pip', 'pytest')
            continue
        with pytest.raises(ParsedError):
            load(ROOT / words[0]).main(words[1:])


def test_the_tests_on_a_gpu_are_found(tmp_path: Path) -> None:
    ((*_, first, second, third),) = commands(tmp_path, 'tests')['tests']
    files = ['test_deformable_ops.py', 'test_gpu.py', 'test_training_options.py']
    assert [first, second, third] == [f'tests/{file}' for file in files]


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    def refused(*words: object) -> str:
        return run(['bash', KIT, *words], tmp_path, code=2)

    if not torch.cuda.is_available():
        assert 'a GPU that torch can use is needed' in refused('out')
        assert not (tmp_path / 'out').exists()
    assert 'usage:' in refused()
    assert 'STAGE must be one of build tests' in refused('out', 'speed')
    assert '--device must be cuda or cpu' in refused('out', '--device', 'tpu')
    assert '--wheels must be a folder made by' in refused('out', '--wheels', tmp_path)


def test_a_failing_step_stops_no_other_and_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """With an interpreter that only notes what it is called with."""
    fake, calls, out = tmp_path / 'python', tmp_path / 'calls', tmp_path / 'out'

    def call(matching: int, demo: int, code: int) -> list[str]:
        fake.write_text(
            f'#!/bin/sh\necho "$3" >>{calls}\n'
            f'case $3 in *matching.py) exit {matching} ;; *demo.py) exit {demo} ;; esac\n'
        )
        fake.chmod(0o755)
        calls.write_text('')
        words = [KIT, out, *TRIAL, 'training', 'demo', 'latency']
        printed = run(['bash', *words], tmp_path, code=code, PYTHON=fake)
        assert ('failed, see OUT/NAME.log: matching' in printed) == (code == 1)
        assert ('not complete, call again: demo' in printed) == (demo == 3)
        return [Path(line).stem for line in calls.read_text().split()]

    steps = ['train_step', 'train_step', 'matching', 'demo', 'latency']
    assert call(matching=1, demo=3, code=1) == steps
    assert call(matching=0, demo=3, code=3) == ['matching', 'demo']
    assert call(matching=0, demo=0, code=0) == ['demo']
    assert call(matching=1, demo=1, code=0) == []
    noted = [json.loads(line) for line in (out / 'steps.jsonl').read_text().splitlines()]
    assert [(n['step'], n['code']) for n in noted if n['step'] in ('matching', 'demo')] == [
        ('matching', 1),
        ('demo', 3),
        ('matching', 0),
        ('demo', 3),
        ('demo', 0),
    ]
    assert tables.main([str(out)]) == 0
    printed = ' '.join(capsys.readouterr().out.split())
    assert f'| training | matching | {noted[-3]["seconds"]} | 0 |' in printed


def test_tables_need_figures(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for path, text in ((tmp_path, 'there are no figures'), (tmp_path / 'gone', 'does not exist')):
        with pytest.raises(SystemExit):
            tables.main([str(path)])
        assert text in capsys.readouterr().err


@pytest.mark.exhaustive
@pytest.mark.parametrize('stage', STAGES)
def test_stages_run_on_the_cpu(stage: str, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    run(['bash', KIT, out, *TRIAL, stage], tmp_path, timeout=900)
    names = [json.loads(line)['step'] for line in (out / 'steps.jsonl').read_text().splitlines()]
    assert set(names) == {path.name for path in (out / 'done').iterdir()}
    printed = run_python(TOOLS / 'benchmarks' / 'tables.py', out, cwd=tmp_path)
    assert f'## {STAGES[stage]}\n' in printed

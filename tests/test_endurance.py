"""Long runs and full disks: bounded memory, equal repeats, whole files."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import cli
import pytest
import tiny_run
from mmengine.runner import Runner

from mmdetr_plugin.checkpoints import read_checkpoint

STEPS, WARM = 1000, 200
GROWTH = 20 * 2**20
"""Bytes that a process may grow by after its first steps: logs, and what allocators keep."""

ISOLATED = ('unshare', '--user', '--map-root-user', '--mount')
"""What may mount a file system that no other process sees, where the system allows it."""


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run.make_data(tmp_path_factory.mktemp('digits') / 'digits')


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


@pytest.mark.exhaustive
def test_memory_of_a_thousand_steps(data: Path, tmp_path: Path) -> None:
    cfg = tiny_run.config(data, tmp_path, epochs=STEPS // 2)
    cfg.train_cfg.val_interval = STEPS
    cfg.default_hooks.checkpoint.interval = STEPS
    seen = []

    def act(runner: Runner, batch: dict) -> None:
        if runner.iter % 100 == 0:
            seen.append(resident())

    tiny_run.train(cfg, 'a thousand steps', tiny_run.BeforeStep(act))
    assert len(seen) == STEPS // 100
    settled = seen[WARM // 100]
    assert max(seen[WARM // 100 :]) < settled + GROWTH, [size >> 20 for size in seen]


@pytest.mark.exhaustive
def test_repeats_are_equal_bit_for_bit(data: Path, tmp_path: Path) -> None:
    """In processes of their own, with two workers each."""
    script = cli.ROOT / 'tests' / 'disk_run.py'
    for name in 'abc':
        cli.run_python(script, data, tmp_path / name, '--workers', 2, cwd=cli.ROOT)
    first, *others = (read_checkpoint(tmp_path / name / 'epoch_2.pth') for name in 'abc')
    for other in others:
        assert list(tiny_run.different(first, other)) == []


def may_mount() -> bool:
    """Whether this system lets a process mount a file system of its own."""
    command = [*ISOLATED, 'mount', '-t', 'tmpfs', 'none', '/mnt']
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.exhaustive
@pytest.mark.parametrize('kind', ['tmpfs', 'quota'])
def test_a_full_disk(data: Path, tmp_path: Path, kind: str) -> None:
    """The run ends with the reason; what is there is whole, and a run with more room resumes."""
    if kind == 'tmpfs' and not may_mount():
        pytest.skip('this system lets no process mount a tmpfs; the quota is tested')
    script = cli.ROOT / 'tests' / 'disk_run.py'
    prefix = ISOLATED if kind == 'tmpfs' else ()
    work_dir = tmp_path / 'run'
    command = [*prefix, sys.executable, script, data, work_dir, f'--{kind}']
    text = cli.run(command, cli.ROOT, code=None)
    reason = 'No space left on device' if kind == 'tmpfs' else 'File too large'
    assert reason in text, text[-3000:]
    assert 'left: epoch_1.pth' in text, text[-3000:]
    assert 'resumed: epoch_2.pth' in text, text[-3000:]
    assert not list(work_dir.glob('.*.tmp')) or os.path.ismount(work_dir)

"""Freed memory is kept, where the C library can and the user has not chosen otherwise."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest
from cli import ROOT
from mmengine.config import Config

from mmdetr_plugin.engine.freed_memory import chosen, keep_freed_memory
from mmdetr_plugin.engine.hooks import KeepMemoryHook

FAULTS = """
import resource
from types import SimpleNamespace
import torch
from mmdetr_plugin.engine.hooks import KeepMemoryHook
torch.set_num_threads(1)
def faults():
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(2**24).fill_(1)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begun
before = faults()
KeepMemoryHook().before_run(SimpleNamespace())
faults()
print(before, faults())
"""


def test_a_block_is_used_again() -> None:
    """Pages are filled once instead of each time: faults of the process, before and after the hook."""
    plain = {k: v for k, v in os.environ.items() if not chosen({k: v})}
    text = subprocess.run(
        [sys.executable, '-c', FAULTS], env=plain, capture_output=True, text=True, check=True
    ).stdout
    before, after = map(int, text.split()[-2:])
    if before < 100:
        pytest.skip('this C library keeps freed blocks of 64 MiB anyway')
    assert after < before / 20


@pytest.mark.parametrize(
    'name, value, expected',
    [
        ('MALLOC_TRIM_THRESHOLD_', '0', True),
        ('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1', True),
        ('GLIBC_TUNABLES', 'glibc.cpu.x86_shstk=off', False),
        ('MALLOC', '1', False),
    ],
)
def test_the_users_choice(name: str, value: str, expected: bool) -> None:
    assert chosen({name: value}) is expected


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: object())
    assert keep_freed_memory() is False


def test_every_run_has_the_hook() -> None:
    cfg = Config.fromfile(ROOT / 'configs' / 'digits_dino.py')
    assert cfg.default_hooks.memory.type == f'mmdetr_plugin.{KeepMemoryHook.__name__}'

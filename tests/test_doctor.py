"""`tools/doctor.py` tells what is broken, with the command that mends it, and nothing else."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import mmcv.ops
import pytest
import torch
from cli import TOOLS, load, run

from mmdetr_plugin.compat import REQUIREMENTS
from mmdetr_plugin.ops import deformable
from mmdetr_plugin.testing import attention_check

doctor = load(TOOLS / 'doctor.py')
DTYPES = ('float32', 'float16', 'bfloat16')


def test_nothing_is_broken_here(tmp_path: Path) -> None:
    text = run([sys.executable, '-W', 'ignore', TOOLS / 'doctor.py'], tmp_path)
    backend = 'compiled' if deformable.has_numba() else 'grid'
    for dtype in DTYPES:
        assert f'cpu {dtype}'.ljust(26) + backend in text
    assert re.search(r'bfloat16  .*; products [0-9.]+ times as fast\n', text)
    assert f'mmcv                      {mmcv.__version__}' in text or 'onedl-mmcv' in text
    assert 'mmcv.ops                  can be imported' in text
    assert text.endswith('nothing is broken\n')


def test_mmcv_without_operators_is_told_with_the_remedy(tmp_path: Path) -> None:
    """An mmcv-lite in the place of mmcv."""
    lite = tmp_path / 'mmcv'
    lite.mkdir()
    (lite / '__init__.py').touch()
    (lite / 'version.py').write_text("__version__ = '2.1.0'\n")
    text = run([sys.executable, TOOLS / 'doctor.py'], tmp_path, code=1, PYTHONPATH=tmp_path)
    assert 'mmcv: needs its compiled operators, found 2.1.0 without them' in text
    assert 'pip install --no-build-isolation "mmcv>=2.1.0,<2.2"' in text
    assert text.endswith('broken: mmdetr_plugin\n')
    assert 'Traceback' not in text


@pytest.mark.parametrize('package', ['mmcv', 'onedl-mmcv'])
def test_operators_that_cannot_be_loaded_are_told(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, '_version', {package: '2.3.6'}.get)
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)  # as if compiled for another torch
    *good, last = doctor.imports()
    assert [row.name for row in good] == ['torch', 'cv2', 'mmdetr_plugin']
    assert (last.name, last.state) == ('mmcv.ops', doctor.BROKEN)
    assert (
        f'pip install --no-build-isolation --no-binary {package} --force-reinstall' in last.remedy
    )
    known = next(r for r in REQUIREMENTS if r.module == 'mmcv')
    versions = known.specifier(from_fork=package != 'mmcv')
    assert f' "{package}{versions}"' in last.remedy


def test_missing_and_doubled_packages_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {'mmcv': '2.1.0', 'mmcv-lite': '2.2.0', 'onedl-mmdetection': '3.5.0'}
    monkeypatch.setattr(doctor, '_version', lambda name: installed.get(name, ''))
    rows = {row.name: row for row in doctor.versions()}
    assert rows['mmcv'].value == '2.1.0 and mmcv-lite 2.2.0'
    assert 'pip uninstall mmcv mmcv-lite, then install one' in rows['mmcv'].remedy
    assert rows['mmdet'] == doctor.Row('mmdet', 'onedl-mmdetection 3.5.0')
    assert rows['numba'].state == doctor.NOTE
    assert rows['numba'].remedy.endswith('on the CPU several times faster: pip install numba')


def test_without_numba_the_grid_backend_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deformable, 'has_numba', lambda: False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    rows = list(doctor.attention())
    assert [row.name for row in rows] == [f'cpu {dtype}' for dtype in DTYPES]
    assert all(row.value.startswith('grid ') and not row.state for row in rows)


def wrong(value: torch.Tensor, *arguments: object) -> torch.Tensor:
    return 1.1 * deformable.sample_grid(value, *arguments)


def wrong_gradient(value: torch.Tensor, shapes: tuple, *arguments: object) -> torch.Tensor:
    out = deformable.sample_grid(value, shapes, *arguments)
    return out.detach() + 1.1 * (out - out.detach())


def not_a_number(value: torch.Tensor, *arguments: object) -> torch.Tensor:
    return float('nan') * deformable.sample_grid(value, *arguments)


@pytest.mark.parametrize('sample', [wrong, wrong_gradient, not_a_number])
def test_a_backend_that_is_wrong_is_told(sample: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = attention_of(sample, monkeypatch)
    assert len(broken) == len(DTYPES)
    assert all('so results are wrong: pip install --upgrade' in row.remedy for row in broken)


def test_a_backend_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ImportError('Numba needs NumPy 2.3 or less\nand more')

    (first, *_) = attention_of(fail, monkeypatch)
    assert first.value == 'ImportError: Numba needs NumPy 2.3 or less'
    assert 'force-reinstall numba, or pip uninstall numba' in first.remedy


def attention_of(sample: Callable, monkeypatch: pytest.MonkeyPatch) -> list[doctor.Row]:
    """The broken rows of the report where every backend is ``sample``."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    for name in deformable.BACKENDS:
        monkeypatch.setitem(deformable.BACKENDS, name, sample)
    return [row for row in doctor.attention() if row.state == doctor.BROKEN]


def test_the_exit_code_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(attention_check, 'LIMITS', {torch.float32: -1.0})
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert doctor.main([]) == 1
    assert 'broken: cpu float32' in capsys.readouterr().out


@pytest.mark.parametrize(('seconds', 'said'), [(0.5, '2.0 times as fast'), (4.0, '0.2 times as')])
def test_bfloat16_is_measured(seconds: float, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {torch.float32: 1.0, torch.bfloat16: seconds}
    monkeypatch.setattr(doctor, 'product_seconds', times.__getitem__)
    (row,) = doctor.processor()
    assert row.name == 'bfloat16' and said in row.value
    assert row.state == (doctor.NOTE if seconds > 1 else '')


def compilers(monkeypatch: pytest.MonkeyPatch, cuda: str | None, ops: str) -> dict[str, str]:
    """Remedies by row, of a torch and operators for these versions of CUDA."""
    monkeypatch.setattr(torch.version, 'cuda', cuda)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(mmcv.ops, 'get_compiling_cuda_version', lambda: ops)
    return {row.name: row.remedy for row in doctor.devices()}


def test_versions_of_cuda_must_match(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = 'Cuda compilation tools, release 11.8, V11.8.89'
    for name in ('nvcc', 'nvidia-smi'):
        tool = tmp_path / name
        tool.write_text(f'#!/bin/sh\necho NVIDIA\necho "{said}"\n')
        tool.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:/bin')
    remedies = compilers(monkeypatch, '12.4', 'not available')
    assert 'the driver must support CUDA 12.4' in remedies["torch's CUDA"]
    assert 'compiled for CUDA 12.4: MMCV_WITH_OPS=1 FORCE_CUDA=1 pip' in remedies["mmcv's CUDA"]
    assert 'install the CUDA 12.4 toolkit' in remedies['nvcc']
    remedies = compilers(monkeypatch, '11.6', '11.8')
    assert not remedies["mmcv's CUDA"] and not remedies['nvcc']
    remedies = compilers(monkeypatch, None, 'not available')
    assert 'there is a GPU, but this torch cannot use it' in remedies["torch's CUDA"]
    assert not remedies["mmcv's CUDA"] and not remedies['nvcc']
    assert doctor._tool_version('nvcc', 'release ') == '11.8'


def test_a_machine_without_gpu_and_compilers_is_fine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    assert not any(compilers(monkeypatch, None, 'not available').values())

#!/usr/bin/env python3
"""Check the installation: versions, imports, devices, and the deformable attention in use.

    python tools/doctor.py

The exit code is 1 if something necessary is missing or broken; its line says how to fix it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

NOTE, BROKEN = 'note', 'BROKEN'
BREAKS = (ImportError, OSError, RuntimeError, AssertionError, AttributeError, TypeError, ValueError)
"""Errors raised by importing or calling a package whose version does not fit the others."""

DISTRIBUTIONS = {
    'mmdetr_plugin': ('mmdetr_plugin',),
    'torch': ('torch',),
    'mmengine': ('mmengine', 'onedl-mmengine'),
    'mmcv': ('mmcv', 'onedl-mmcv', 'mmcv-full', 'mmcv-lite'),
    'mmdet': ('mmdet', 'onedl-mmdetection'),
    'numpy': ('numpy',),
    'scipy': ('scipy',),
    'pycocotools': ('pycocotools',),
    'OpenCV': ('opencv-python', 'opencv-python-headless'),
}
OPTIONAL = {
    'numba': 'makes deformable attention on the CPU several times faster',
    'matplotlib': 'draws the pictures of tools/check_dataset.py',
    'deformops': '',
}
WITH_CUDA = 'MMCV_WITH_OPS=1 FORCE_CUDA=1 '
BFLOAT16 = {'amx_bf16': 'AMX', 'avx512_bf16': 'AVX512-BF16'}
"""Instructions for it, by their names in /proc/cpuinfo."""
WAITS = ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME')
"""Variables that say how long a thread waits for others before it sleeps."""
SIDE, PRODUCTS = 512, 5
TORCH = 'choose the command for torch at https://pytorch.org/get-started/locally, then compile mmcv'


@dataclass(frozen=True)
class Row:
    """One line of the report; ``state`` is '', NOTE or BROKEN, ``remedy`` says what to do."""

    name: str
    value: str
    state: str = ''
    remedy: str = ''


def versions() -> Iterator[Row]:
    """Versions according to pip's metadata; nothing is imported."""
    yield Row('python', platform.python_version())
    for name, distributions in DISTRIBUTIONS.items():
        found = [d for d in distributions if _version(d)]
        value = ' and '.join(f'{d} {_version(d)}' if d != name else _version(d) for d in found)
        if len(found) > 1:
            remedy = f'pip uninstall {" ".join(found)}, then install one of them'
            yield Row(name, value, NOTE, f'several packages install the same files: {remedy}')
        else:
            yield Row(name, value or 'not installed')
    for name, use in OPTIONAL.items():
        version = _version(name)
        note = (NOTE, f'optional, {use}: pip install {name}') if use and not version else ()
        yield Row(name, version or 'not installed', *note)


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ''


def rebuild(variables: str = '') -> str:
    """The command that compiles mmcv again, the original or the fork that is installed."""
    package, versions = 'mmcv', '>=2.1.0,<2.2'
    if _version('onedl-mmcv'):
        package, versions = 'onedl-mmcv', '>=2.1.0,<3.0'
    return (
        f'{variables}pip install --no-build-isolation --no-binary {package} --force-reinstall '
        f'--no-deps --no-cache-dir "{package}{versions}"  '
        '# compiles; needs "setuptools<81", wheel and ninja'
    )


def imports() -> Iterator[Row]:
    """Import each package after those it depends on; stops at the first that fails."""
    for module, remedy in (
        ('torch', TORCH),
        ('cv2', 'pip uninstall opencv-python, then pip install --no-deps opencv-python-headless'),
        ('mmdetr_plugin', 'see above'),  # its own error names the misfit and the remedy
        ('mmcv.ops', f'mmcv was compiled for another torch, or not at all: {rebuild()}'),
        ('mmdetr_plugin.components', 'run `make setup` in a checkout: it installs tested versions'),
    ):
        try:
            importlib.import_module(module)
        except BREAKS as error:
            yield Row(module, f'{type(error).__name__}: {error}', BROKEN, remedy)
            return
        yield Row(module, 'can be imported')


def devices() -> Iterator[Row]:
    """Whether torch, mmcv's operators and the compilers use the same CUDA version."""
    import torch
    from mmcv.ops import get_compiler_version, get_compiling_cuda_version

    cuda, available = torch.version.cuda, torch.cuda.is_available()
    if cuda:
        remedy = f'no GPU can be used: run nvidia-smi; the driver must support CUDA {cuda}'
        yield Row("torch's CUDA", cuda, *(() if available else (NOTE, remedy)))
    else:
        driver = shutil.which('nvidia-smi')
        remedy = f'there is a GPU, but this torch cannot use it: {TORCH}'
        yield Row("torch's CUDA", 'none, a build for CPUs', *((NOTE, remedy) if driver else ()))
    for i in range(torch.cuda.device_count() if available else 0):
        yield Row(f'GPU {i}', torch.cuda.get_device_name(i))

    ops = get_compiling_cuda_version()
    state, remedy = '', ''
    if cuda and not _same_major(ops, cuda):
        state, remedy = (
            NOTE,
            f"mmcv's operators must be compiled for CUDA {cuda}: {rebuild(WITH_CUDA)}",
        )
    yield Row("mmcv's CUDA", f'{ops}, compiled by {get_compiler_version()}', state, remedy)

    nvcc = _tool_version('nvcc', 'release ')
    state, remedy = '', ''
    if cuda and nvcc and not _same_major(nvcc, cuda):
        state, remedy = (
            NOTE,
            f'it cannot compile mmcv for this torch: install the CUDA {cuda} toolkit',
        )
    yield Row('nvcc', nvcc or 'none; only compiling mmcv for CUDA needs it', state, remedy)
    yield Row('c++', _tool_version('c++') or 'none; only compiling mmcv needs it')


def _same_major(a: str, b: str) -> bool:
    return a.split('.')[0] == b.split('.')[0]


def _tool_version(command: str, before: str = '') -> str:
    """The version that a compiler prints after ``before``; '' if there is no such compiler."""
    path = shutil.which(command)
    if not path:
        return ''
    said = subprocess.run([path, '--version'], capture_output=True, text=True).stdout
    line = next((line for line in said.splitlines() if before in line), 'of unknown version')
    return line[line.find(before) + len(before) :].split(',')[0]


def processor() -> Iterator[Row]:
    """Whether the processor computes in bfloat16, and the time of a matrix product against float32."""
    import torch

    info = Path('/proc/cpuinfo')
    flags = set(info.read_text().split()) if info.is_file() else set()
    found = [name for flag, name in BFLOAT16.items() if flag in flags]
    times = product_seconds(torch.float32) / product_seconds(torch.bfloat16)
    value = f'{" and ".join(found) or "no instructions found"}; products {times:.1f} times as fast'
    note = (
        (NOTE, 'slower than float32 here: do without --amp on this processor') if times < 1 else ()
    )
    yield Row('bfloat16', value, *note)


def product_seconds(dtype: torch.dtype) -> float:
    """The shortest time of a few products of square matrices."""
    import torch

    matrix, times = torch.ones(SIDE, SIDE, dtype=dtype), []
    for _ in range(PRODUCTS + 1):  # the first prepares
        begun = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - begun)
    return min(times[1:])


def threads() -> Iterator[Row]:
    """How many threads torch has, and how long they spin before they sleep."""
    import torch

    from mmdetr_plugin.engine.threads import WAITING

    usable, load = usable_processors(), os.getloadavg()[0]
    value = f'{torch.get_num_threads()} of torch, {usable} processors, load {load:.1f}'
    fixed = 'OMP_NUM_THREADS' in os.environ
    busy = 'other work is running; training uses fewer threads meanwhile (docs/training.md)'
    note = (NOTE, busy) if load > usable and not fixed else ()
    yield Row('threads', f'{value}{", fixed by OMP_NUM_THREADS" if fixed else ""}', *note)

    library = openmp_library()
    chosen = [f'{name}={os.environ[name]}' for name in WAITS if name in os.environ]
    if chosen:
        yield Row('waiting threads', f'{library}, {", ".join(chosen)}')
        return
    setting = ' '.join(f'{name}={number}' for name, number in WAITING.items())
    advice = f'the tools set {setting}; for scripts of your own: export {setting}'
    if 'libgomp' not in library:
        advice = f'{setting}, which the tools set, is for libgomp; try KMP_BLOCKTIME=0'
    yield Row('waiting threads', f'{library}, as it does by default', NOTE, advice)


def usable_processors() -> int:
    """The number of processors that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def openmp_library() -> str:
    """The library whose threads torch uses, as far as Linux tells."""
    maps = Path('/proc/self/maps')
    loaded = maps.read_text() if maps.is_file() else ''
    found = [name for name in ('libgomp', 'libiomp5', 'libomp') if f'/{name}' in loaded]
    return ' and '.join(found) or 'an unknown library'


def attention() -> Iterator[Row]:
    """Compare deformable attention, as models call it, with its definition on every device."""
    import torch

    from mmdetr_plugin.testing.attention_check import LIMITS, compare

    remedies = {
        'compiled': 'pip install --upgrade --force-reinstall numba, or pip uninstall numba',
        'mmcv': rebuild(WITH_CUDA),
    }
    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    for device in (torch.device('cpu'), *(torch.device('cuda', i) for i in gpus)):
        advice = remedies['compiled' if device.type == 'cpu' else 'mmcv']
        for dtype in LIMITS:
            name = f'{device} {str(dtype).removeprefix("torch.")}'
            try:
                result = compare(device, dtype)
            except BREAKS as error:
                first = (str(error).splitlines() or [''])[0]
                yield Row(name, f'{type(error).__name__}: {first}', BROKEN, advice)
                continue
            value = f'{result.backend:<10}{result.forward:<10.1e}{result.backward:.1e}'
            remedy = f'above {result.limit:.0e}, so results are wrong: {advice}'
            yield Row(name, value, *(() if result.agrees else (BROKEN, remedy)))


def report(title: str, rows: Iterator[Row]) -> list[Row]:
    """Print the rows as they come; return the broken ones."""
    print(f'{title}')
    broken = []
    for row in rows:
        print(f'  {row.name:<26}{row.value}', flush=True)
        if row.state:
            print(f'  {row.state:>24}  {row.remedy}')
        broken += [row] if row.state == BROKEN else []
    return broken


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args(argv)
    broken = report('versions', versions()) + report('imports', imports())
    if not broken:  # otherwise there is nothing to call
        broken += report('devices and compilers', devices())
        broken += report('processor', processor())
        broken += report('threads', threads())
        title = 'deformable attention: backend, largest difference forward and backward'
        broken += report(f'{title}, in shares of the largest value', attention())
    print(f'broken: {", ".join(row.name for row in broken)}' if broken else 'nothing is broken')
    return 1 if broken else 0


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
"""Build a wheel of mmcv with its compiled operators, and print its path.

    .venv/bin/python scripts/build_mmcv.py 2.1.0
    .venv/bin/python scripts/build_mmcv.py 2.3.6 --package onedl-mmcv

mmcv compiles 77 files one by one, and nearly all of that time is spent reading PyTorch's headers again.
Here a few new files include the others, which are unchanged but for their names: about a minute
instead of eight. If that does not compile, mmcv is built file by file. mmcv's setup script asks for
C++17; from PyTorch 2.15 on, whose headers need C++20, PyTorch chooses.

The wheel is kept in the user's cache folder, one for each version of mmcv, PyTorch, Python and CUDA, so
that the next environment needs no compiler. torch, setuptools and wheel must be installed.

Without a network, --source names a folder with mmcv's source package. With --work the files are
compiled in a folder that stays, so that an interrupted build continues.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

SOURCES = Path('mmcv/ops/csrc/pytorch')
"""Folder of the operators within mmcv's source package; ``cpu`` below it has those of the CPU."""
ALONE = ('bezier_align', 'roi_align', 'roi_align_rotated', 'rotated_feature_align')
"""Files of ``cpu`` that define helpers of the same names: no two of them fit into one unit."""
LAST = 'psamask'
"""Defines macros named min and max, so nothing may follow it."""
DIRECTLY = ('--no-deps', '--no-build-isolation')
"""Options of pip: nothing else is downloaded or installed."""


def cache_folder() -> Path:
    """Where wheels of this user are kept."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'mmdetr_plugin' / 'wheels'


def key(package: str, version: str) -> str:
    """A name for everything that decides whether a wheel fits."""
    parts = [
        f'{package} {version}',
        f'torch {torch.__version__}',
        f'python {platform.python_version_tuple()[:2]} {platform.machine()}',
        f'libc {platform.libc_ver()}',
        f'cuda {torch.version.cuda} {os.environ.get("FORCE_CUDA", "0")}',
        f'architectures {os.environ.get("TORCH_CUDA_ARCH_LIST", "")}',
    ]
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:16]


def units(names: Sequence[str]) -> list[list[str]]:
    """The names of one folder's files (without suffix), grouped into those that one unit includes."""
    joined = [name for name in sorted(names) if name not in (*ALONE, LAST)]
    joined += [name for name in names if name == LAST]
    apart = [[name] for name in ALONE if name in names]
    if joined and apart:
        return [[apart[0][0], *joined], *apart[1:]]
    return [joined] if joined else apart


def group(source: Path) -> None:
    """Let units in ``source`` (an unpacked package) include the operators' files."""
    for folder in (source / SOURCES, source / SOURCES / 'cpu'):
        files = {path.stem: path for path in folder.glob('*.cpp')}
        if not files:
            raise FileNotFoundError(f'{folder} must have the C++ files of mmcv, got none')
        # The helpers are in `cpu` alone: the files of the other folder have the same names.
        together = units(sorted(files)) if folder.name == 'cpu' else [sorted(files)]
        for path in files.values():
            path.rename(path.with_suffix('.inl'))
        for i, names in enumerate(together):
            lines = [f'#include "{name}.inl"\n' for name in names]
            (folder / f'unit_{i}.cpp').write_text(''.join(lines))


def ask_for_no_standard(script: Path) -> None:
    """Remove the option from mmcv's setup script; PyTorch adds its own where there is none.

    Only for the versions of PyTorch that do not compile with C++17.
    """
    if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 15):
        return
    text = script.read_text(encoding='utf-8')
    script.write_text(text.replace("'-std=c++17'", ''), encoding='utf-8')


def pip(*words: object) -> None:
    """Run pip; its output goes to the standard error."""
    command = [sys.executable, '-m', 'pip', *map(str, words)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def source_package(package: str, version: str, folder: Path, offered: Path | None) -> Path:
    """The source package: that of the folder ``offered``, or downloaded to ``folder``.

    Raises:
        FileNotFoundError: ``offered`` has none.
    """
    if offered is None:
        pip('download', *DIRECTLY, '--no-binary', ':all:', '-d', folder, f'{package}=={version}')
    archive = (offered or folder) / f'{package.replace("-", "_")}-{version}.tar.gz'
    if not archive.is_file():
        raise FileNotFoundError(f'--source must be a folder with {archive.name}, got {offered}')
    return archive


def unpack(archive: Path, target: Path, grouped: bool) -> Path:
    """The folder of the package below ``target``, ready to be compiled; made once."""
    source = target / archive.name.removesuffix('.tar.gz')
    if not source.is_dir():
        partial = target.with_suffix('.partial')
        shutil.rmtree(partial, ignore_errors=True)
        with tarfile.open(archive) as package:
            package.extractall(partial, filter='data')
        ask_for_no_standard(partial / source.name / 'setup.py')
        if grouped:
            group(partial / source.name)
        partial.replace(target)
    return source


def build(package: str, version: str, folder: Path, offered: Path | None = None) -> Path:
    """The wheel, built in ``folder``, from the source package that ``offered`` has."""
    archive = source_package(package, version, folder, offered)
    for grouped in (True, False):
        try:
            source = unpack(archive, folder / ('grouped' if grouped else 'plain'), grouped)
            pip('wheel', *DIRECTLY, '--no-cache-dir', '-w', folder / 'wheels', source)
            break
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            if not grouped:
                raise
            print(
                f'mmcv is compiled file by file, as grouped files failed: {error}', file=sys.stderr
            )
    return next((folder / 'wheels').glob('*.whl'))


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    options.add_argument('version', help='of mmcv')
    options.add_argument('--package', default='mmcv', help='its distribution: mmcv or onedl-mmcv')
    options.add_argument('--find', action='store_true', help='end with 1 if no wheel is kept')
    options.add_argument('--again', action='store_true', help='build even if a wheel is kept')
    options.add_argument(
        '--source',
        type=Path,
        metavar='FOLDER',
        help='has the source package; nothing is downloaded',
    )
    options.add_argument(
        '--work', type=Path, metavar='FOLDER', help='compile there, and continue what is there'
    )
    args = options.parse_args(argv)
    os.environ.setdefault('MMCV_WITH_OPS', '1')
    place = cache_folder() / key(args.package, args.version)
    kept = sorted(place.glob('*.whl'))
    if kept and not args.again:
        print(kept[0])
        return 0
    if args.find:
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        wheel = build(args.package, args.version, folder.resolve(), args.source)
        place.mkdir(parents=True, exist_ok=True)
        # Complete or not there at all, also if two builds end at once.
        partial = place / f'{wheel.name}.{os.getpid()}'
        shutil.move(wheel, partial)
        partial.replace(place / wheel.name)
    print(place / wheel.name)
    return 0


if __name__ == '__main__':
    sys.exit(main())

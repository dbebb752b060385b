"""The quick build of mmcv: which files are compiled together, and when a wheel is built."""

from __future__ import annotations

import runpy
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from cli import ROOT, load

build_mmcv = load(ROOT / 'scripts' / 'build_mmcv.py')
NAMES = ('nms', 'psamask', 'roi_align', 'voxelization', 'roi_align_rotated', 'deform_conv')


def test_every_file_is_in_one_unit() -> None:
    units = build_mmcv.units(NAMES)
    assert sorted(name for unit in units for name in unit) == sorted(NAMES)
    for unit in units:
        assert len(set(unit) & set(build_mmcv.ALONE)) <= 1, 'they define the same helpers'
        assert build_mmcv.LAST not in unit[:-1], 'its macros change what follows'


def test_the_files_are_unchanged(tmp_path: Path) -> None:
    folders = (tmp_path / build_mmcv.SOURCES, tmp_path / build_mmcv.SOURCES / 'cpu')
    for folder in folders:
        folder.mkdir(parents=True)
        for name in NAMES:
            (folder / f'{name}.cpp').write_text(f'// {folder.name} {name}\n')
    build_mmcv.group(tmp_path)
    for folder in folders:
        included = [
            line.split('"')[1]
            for unit in folder.glob('*.cpp')
            for line in unit.read_text().splitlines()
        ]
        assert sorted(included) == sorted(f'{name}.inl' for name in NAMES)
        for name in NAMES:
            assert (folder / f'{name}.inl').read_text() == f'// {folder.name} {name}\n'


def test_a_wheel_is_built_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    built = []

    def build(package: str, version: str, folder: Path, offered: Path | None) -> Path:
        built.append((package, version))
        wheel = folder / f'{package}-{version}-py3-none-any.whl'
        with ZipFile(wheel, 'w') as archive:
            archive.writestr('mmcv.py', '')
        return wheel

    monkeypatch.setattr(build_mmcv, 'build', build)
    assert build_mmcv.main(['2.1.0', '--find']) == 1, 'nothing is kept yet'
    assert [build_mmcv.main(['2.1.0']) for _ in range(2)] == [0, 0]
    assert build_mmcv.main(['2.1.0', '--find']) == 0
    assert built == [('mmcv', '2.1.0')]
    paths = capsys.readouterr().out.split()
    assert len(set(paths)) == 1 and ZipFile(paths[0]).namelist() == ['mmcv.py']
    build_mmcv.main(['2.2.0'])
    build_mmcv.main(['2.1.0', '--again'])
    build_mmcv.main(['2.1.0', '--package', 'fork'])
    expected = [('mmcv', '2.2.0'), ('mmcv', '2.1.0'), ('fork', '2.1.0')]
    assert built[1:] == expected, 'another version or package needs another wheel'
    assert [p.suffix for p in (tmp_path / 'cache').rglob('*-2.*')] == ['.whl'] * 3


def test_what_is_no_mmcv_is_not_grouped(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='must have the C\\+\\+ files of mmcv'):
        build_mmcv.group(tmp_path)


def package(folder: Path, name: str = 'mmcv-2.1.0') -> Path:
    """A source package with the files of one folder twice."""
    source = folder / name
    for place in (build_mmcv.SOURCES, build_mmcv.SOURCES / 'cpu'):
        (source / place).mkdir(parents=True)
        (source / place / 'nms.cpp').touch()
    (source / 'setup.py').write_text("cxx = ['-Wall', '-std=c++17']\nnvcc = ['-std=c++17']\n")
    archive = folder / f'{name}.tar.gz'
    with tarfile.open(archive, 'w:gz') as packed:
        packed.add(source, source.name)
    return archive


def test_an_interrupted_build_continues_with_its_files(tmp_path: Path) -> None:
    archive, target = package(tmp_path), tmp_path / 'grouped'
    target.with_suffix('.partial').mkdir()  # of a call that was killed while it unpacked
    source = build_mmcv.unpack(archive, target, grouped=True)
    (source / 'compiled.o').touch()
    assert build_mmcv.unpack(archive, target, grouped=True) == source
    assert (source / 'compiled.o').is_file()
    names = sorted(path.name for path in (source / build_mmcv.SOURCES / 'cpu').iterdir())
    assert names == ['nms.inl', 'unit_0.cpp']


@pytest.mark.parametrize(
    ('version', 'options'),
    [('2.13.0+cpu', ['-std=c++17', '-Wall']), ('2.15.0', ['-Wall']), ('3.0.1', ['-Wall'])],
)
def test_new_versions_of_pytorch_choose_the_standard(
    version: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, '__version__', version)
    source = build_mmcv.unpack(package(tmp_path), tmp_path / 'plain', grouped=False)
    assert sorted(runpy.run_path(str(source / 'setup.py'))['cxx']) == sorted(options)


def test_a_folder_takes_the_place_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_mmcv, 'pip', lambda *words: pytest.fail(f'must not run pip {words}'))
    archive = package(tmp_path)
    assert build_mmcv.source_package('mmcv', '2.1.0', tmp_path / 'work', tmp_path) == archive
    fork = package(tmp_path, 'onedl_mmcv-2.3.6')
    assert build_mmcv.source_package('onedl-mmcv', '2.3.6', tmp_path / 'work', tmp_path) == fork
    with pytest.raises(FileNotFoundError, match=r'must be a folder with mmcv-2\.1\.1\.tar\.gz'):
        build_mmcv.source_package('mmcv', '2.1.1', tmp_path / 'work', tmp_path)

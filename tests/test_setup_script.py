"""What `make setup` installs: from which versions, with which Python, originals or forks."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from cli import ROOT, run
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mmdetr_plugin.compat import REQUIREMENTS

FILES = sorted(
    path.name
    for path in (ROOT / 'requirements').glob('*.txt')
    if path.name != 'mim.txt'  # is a list of packages
)
FORKS = {required.fork for required in REQUIREMENTS if required.fork}
ORIGINALS = {required.module for required in REQUIREMENTS if required.fork}
FAKE_VERSION = 'import sys; sys.version_info = (3, $MINOR, 0); ${2#import sys;}'
INTERPRETER = f"""#!/usr/bin/env bash
echo "$*" >>commands
case "$*" in
    *version_info*) {sys.executable} -S -c "{FAKE_VERSION}" ;;
    '-m venv'*) [ ! -e stop ] && mkdir -p .venv/bin && ln -s "$PWD/interpreter" .venv/bin/python ;;
    scripts/build_mmcv.py*) touch built && echo built.whl ;;
    '- '*) {sys.executable} "$@" ;;
    -) [[ $(cat) != *torch.cuda* && -e built ]] ;;
esac
"""
"""Writes down what it is asked to do, and does what needs no network."""


def pins(*files: Path) -> list[Requirement]:
    lines = [line for file in files for line in file.read_text(encoding='utf-8').splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith('#')]


def names(pinned: list[Requirement]) -> Counter[str]:
    return Counter(canonicalize_name(pin.name) for pin in pinned)


def installed_by_make() -> set[str]:
    """Distributions that the package and the extras of `make setup` require."""
    script = (ROOT / 'scripts' / 'setup.sh').read_text(encoding='utf-8')
    found = re.search(r'^EXTRAS=([\w,-]+)', script, re.MULTILINE)
    assert found
    required = [Requirement(text) for text in importlib.metadata.requires('mmdetr_plugin') or ()]
    return {
        canonicalize_name(r.name)
        for r in required
        if not r.marker or any(r.marker.evaluate({'extra': e}) for e in found[1].split(','))
    }


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that the script reads, and an interpreter that only pretends to install."""
    for name in ('scripts', 'requirements'):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / 'setup.py').touch()
    (tmp_path / 'interpreter').write_text(INTERPRETER)
    (tmp_path / 'interpreter').chmod(0o755)
    return tmp_path


def make_setup(checkout: Path, name: str = '', minor: int = 12, code: int = 0) -> str:
    return run(
        *(['bash', 'scripts/setup.sh'], checkout),
        code=code,
        PYTHON=checkout / 'interpreter',
        MINOR=minor,
        CONSTRAINTS=f'requirements/{name}' if name else '',
    )


def test_everything_installed_by_make_is_pinned_once() -> None:
    default = pins(ROOT / 'requirements' / 'constraints.txt')
    assert len(installed_by_make()) > len(REQUIREMENTS)
    assert installed_by_make() <= set(names(default))
    for name in FILES:
        pinned = pins(ROOT / 'requirements' / name)
        assert all(re.fullmatch(r'==[\w.]+', str(pin.specifier)) for pin in pinned)
        assert max(names(pinned).values()) == 1
        if name != 'constraints.txt':
            repeated = {str(pin) for pin in pinned} & {str(pin) for pin in default}
            assert not repeated, 'only what differs'


@pytest.mark.parametrize('name', FILES)
def test_the_versions_of_a_file_take_the_place_of_the_usual_ones(name: str, checkout: Path) -> None:
    make_setup(checkout, name)
    chosen = pins(checkout / 'requirements' / name)
    used = pins(checkout / '.venv' / 'constraints.txt')
    usual = pins(checkout / 'requirements' / 'constraints.txt')
    assert max(names(used).values()) == 1
    assert {str(pin) for pin in chosen} <= {str(pin) for pin in used}
    assert set(names(used)) == set(names(chosen + usual))
    assert make_setup(checkout) == '', 'the choice is kept, and there is nothing to do'


@pytest.mark.parametrize(
    ('name', 'wanted', 'unwanted'),
    [('constraints.txt', ORIGINALS, FORKS), ('onedl.txt', FORKS, ORIGINALS)],
)
def test_originals_and_forks_do_not_meet(
    name: str, wanted: set[str], unwanted: set[str], checkout: Path
) -> None:
    make_setup(checkout, name)
    lines = (checkout / 'commands').read_text().splitlines()
    asked = [line.split() for line in lines if line.startswith('-m pip install')]
    words = {re.split('[<>=]', word)[0] for line in asked for word in line}
    assert not words & unwanted
    (mmcv,) = {word for word in wanted if 'mmcv' in word}
    (pin,) = [pin for pin in pins(checkout / 'requirements' / name) if pin.name == mmcv]
    version = str(pin.specifier).removeprefix('==')
    assert f'scripts/build_mmcv.py --package {mmcv} {version} --find' in lines
    if wanted == FORKS:
        assert FORKS - {mmcv} <= words
        assert not any('.[' in line for line in lines), 'pip would install the originals'
        assert installed_by_make() - ORIGINALS <= words
    else:
        assert any(re.search(r'-e \.\[demo,', line) for line in lines)


def test_other_versions_make_room_first(checkout: Path) -> None:
    make_setup(checkout)
    (checkout / 'commands').unlink()
    assert 'done in' in make_setup(checkout, 'onedl.txt')
    lines = [line for line in (checkout / 'commands').read_text().splitlines() if '-m pip' in line]
    first = next(line for line in lines if 'install' in line)
    assert first.startswith('-m pip uninstall -y ') and set(first.split()) >= ORIGINALS | FORKS


def test_a_file_of_something_else_is_refused(checkout: Path) -> None:
    text = make_setup(checkout, 'absent.txt', code=1)
    assert 'error: CONSTRAINTS must name a file, got: requirements/absent.txt' in text
    assert 'name one such as requirements/onedl.txt' in text
    text = make_setup(checkout, 'mim.txt', code=1)
    assert 'every line of requirements/mim.txt must be NAME==VERSION, got: certifi' in text
    assert not (checkout / '.venv').exists()


@pytest.mark.parametrize('minor', [10, 11, 12, 13, 14])
@pytest.mark.parametrize(('name', 'newest'), [('constraints.txt', 12), ('onedl.txt', 13)])
def test_setup_takes_the_versions_that_it_names(
    name: str, newest: int, minor: int, checkout: Path
) -> None:
    """An interpreter of another version is refused; one of these makes the environment."""
    (checkout / 'stop').touch()
    text = make_setup(checkout, name, minor, code=1)
    if 11 <= minor <= newest:
        assert '-m venv --clear .venv' in (checkout / 'commands').read_text()
        assert f'apt-get install python3.{minor}-venv' in text
    else:
        assert f'Python 3.11 to 3.{newest} is needed, looked for: ' in text

"""Checks the dependencies at import: one readable error if one is missing or does not fit.

The bounds are those of `setup.py`. They are checked here too because pip does not enforce them later:
another `pip install` may replace a package, and the onedl forks (other distribution names, the same
modules) can only be installed with `--no-deps`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Requirement:
    """A module that must be installed, in a version >= `minimum` and < `below`.

    `fork` is a distribution that provides the same module; its upper bound is `fork_below`, if given.
    """

    module: str
    minimum: str
    below: str = ''
    fork: str = ''
    fork_below: str = ''
    compiled: str = ''  # stem of the file name of the extension that a usable build contains

    def specifier(self, from_fork: bool = False) -> str:
        below = (self.fork_below if from_fork else '') or self.below
        return f'>={self.minimum}' + (f',<{below}' if below else '')


REQUIREMENTS = (
    Requirement('torch', '2.5'),
    Requirement('mmengine', '0.10.0', '1.0', fork='onedl-mmengine'),
    # mmdet 3.3 refuses mmcv 2.2; later versions of the forks fit each other.
    Requirement('mmcv', '2.1.0', '2.2', fork='onedl-mmcv', fork_below='3.0', compiled='_ext'),
    Requirement('mmdet', '3.3.0', '4.0', fork='onedl-mmdetection'),
    Requirement('scipy', '1.9'),
    Requirement('pycocotools', '2.0.6'),
)


def check_dependencies(requirements: Iterable[Requirement] = REQUIREMENTS) -> None:
    """Raise one ImportError that names every unmet requirement and the remedy.

    Nothing is imported: this takes milliseconds, and a broken package cannot hide the message.
    """
    problems, remedies = [], []
    for requirement in requirements:
        problem = _problem(requirement)
        if problem:
            problems.append(f'  {requirement.module}: {problem}')
            remedies.append(f'"{requirement.module}{requirement.specifier()}"')
    if problems:
        raise ImportError(
            'mmdetr_plugin cannot work with what is installed:\n'
            + '\n'.join(problems)
            + f'\nTo fix it: pip install --no-build-isolation {" ".join(remedies)}\n'
            '(this compiles mmcv: install torch, "setuptools<81", wheel and ninja first), '
            'or run `make setup` in a checkout, which installs tested versions.'
        )


def _problem(requirement: Requirement) -> str:
    """Describe why one requirement is not met; an empty string if it is."""
    folder = _module_folder(requirement.module)
    if folder is None:
        return f'needs {requirement.specifier()}, but is not installed'
    version, from_fork = _installed_version(requirement, folder)
    specifier = requirement.specifier(from_fork)
    if not version:
        return f'needs {specifier}, but its version is unknown (in {folder})'
    below = (requirement.fork_below if from_fork else '') or requirement.below
    too_old = _numbers(version) < _numbers(requirement.minimum)
    too_new = bool(below) and _numbers(version) >= _numbers(below)
    if too_old or too_new:
        return f'needs {specifier}, found {version}'
    if requirement.compiled and not _has_extension(folder, requirement.compiled):
        return (
            f'needs its compiled operators, found {version} without them '
            f'(is this {requirement.module}-lite?)'
        )
    return ''


def _module_folder(module: str) -> Path | None:
    spec = importlib.util.find_spec(module)
    # A spec without origin belongs to a folder that an uninstall left behind.
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def _installed_version(requirement: Requirement, folder: Path) -> tuple[str, bool]:
    """The version, and whether it is that of the fork.

    The module's own `version.py` is read first: if both distributions are installed, the metadata
    does not say which one wrote the files. In the forks that file has no number, so their metadata
    are used.
    """
    file = folder / 'version.py'
    text = file.read_text(encoding='utf-8') if file.is_file() else ''
    stated = re.search(r"^(?:__version__|version)\s*(?::.*)?=\s*['\"](\d[^'\"]*)", text, re.M)
    if stated:
        return stated.group(1), False
    for name in filter(None, (requirement.fork, requirement.module)):
        try:
            return importlib.metadata.version(name), name == requirement.fork
        except importlib.metadata.PackageNotFoundError:
            continue
    return '', False


def _numbers(version: str) -> tuple[int, ...]:
    """The release, '2.13.0+cpu' -> (2, 13); trailing zeros are removed, so that 2.2 equals 2.2.0."""
    match = re.match(r'\d+(\.\d+)*', version)
    numbers = [int(part) for part in match.group().split('.')] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _has_extension(folder: Path, stem: str) -> bool:
    return any(file.suffix in ('.so', '.pyd', '.dylib') for file in folder.glob(f'{stem}*'))

"""Where the configs and tools are: in a checkout or in an installed package."""

from __future__ import annotations

import difflib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def project_root() -> Path:
    """The folder that holds ``configs/`` and ``tools/``.

    It is the checkout where the package is run from one, otherwise the folder ``.mim`` that a wheel
    puts into the package.

    Raises:
        FileNotFoundError: neither has them.
    """
    for folder in (PACKAGE.parent, PACKAGE / '.mim'):
        if (folder / 'model-index.yml').is_file() and (folder / 'configs').is_dir():
            return folder
    raise FileNotFoundError(
        f'configs must be in the checkout ({PACKAGE.parent}) or in the installed package '
        f'({PACKAGE / ".mim"}), got neither; install the package again'
    )


def config_path(name: str) -> Path:
    """The file of a config of this project, e.g. ``detr_r50`` or ``finetune/detr_r50_12e``.

    Raises:
        FileNotFoundError: there is no such config.
    """
    folder = project_root() / 'configs'
    path = folder / f'{name}.py'
    if not path.is_file():
        known = [file.relative_to(folder).with_suffix('').as_posix() for file in config_files()]
        near = difflib.get_close_matches(name, known, n=3)
        hint = f'did you mean {" or ".join(near)}?' if near else 'check the name'
        raise FileNotFoundError(
            f'a config must be a file, or the name of one below configs/, got {name}; {hint}'
        )
    return path


def config_files() -> list[Path]:
    """The configs of this project, without the parts in ``_base_``."""
    files = (project_root() / 'configs').rglob('*.py')
    return sorted(file for file in files if '_base_' not in file.parts)

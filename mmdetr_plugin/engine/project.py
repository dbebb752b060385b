"""Where the configs and tools are: in a checkout or in an installed package."""

from __future__ import annotations

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
    path = project_root() / 'configs' / f'{name}.py'
    if not path.is_file():
        raise FileNotFoundError(f'a config must be a file below configs/, got {name} ({path})')
    return path

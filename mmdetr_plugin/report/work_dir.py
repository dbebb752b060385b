"""What a training run left in its folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..checkpoints.resume import latest_checkpoint
from ..visualization.runs import read_scalars

LOADED = re.compile(r'What is loaded from (.*):\n((?:[+|].*\n?)+)')
"""The table that :class:`.CheckpointAdapter` logs."""


@dataclass(frozen=True)
class WorkDir:
    """The folder of a run.

    Attributes:
        folder: as `tools/train.py` makes it.
        config: the config that the run saved.
    """

    folder: Path
    config: Path

    @classmethod
    def open(cls, folder: Path, config: Path | None = None) -> WorkDir:
        """The folder of a run; ``config`` chooses one of several configs in it.

        Raises:
            FileNotFoundError: there is no such folder or config.
            ValueError: it is not the folder of a run, or holds several configs.
        """
        if not folder.is_dir():
            raise FileNotFoundError(
                f'the work dir must be the folder that training wrote, got {folder}, which '
                f'{"is a file" if folder.exists() else "does not exist"}; check the path'
            )
        found = sorted(folder.glob('*.py'))
        if config is not None:
            if not config.is_file():
                raise FileNotFoundError(f'the config must be a file, got {config}; check the path')
            found = [config]
        if not found:
            raise ValueError(
                f'a work dir must hold the config of its run (NAME.py), got none in {folder}; name '
                'the folder that training wrote, such as work_dirs/NAME'
            )
        if len(found) > 1:
            names = ', '.join(file.name for file in found)
            raise ValueError(
                f'a work dir must hold one config, got {names} in {folder}; choose one: --config FILE'
            )
        return cls(folder, found[0])

    @property
    def name(self) -> str:
        return self.config.stem

    @cached_property
    def cfg(self) -> Config:
        return Config.fromfile(self.config)

    @cached_property
    def scalars(self) -> list[dict[str, Any]]:
        """What was logged, see :func:`.read_scalars`."""
        return read_scalars(self.folder)

    def checkpoint(self) -> Path:
        """The weights with the best score, or else the latest ones.

        Raises:
            ValueError: there are none, or all are damaged.
        """
        best = max(self.folder.glob('best_*.pth'), key=lambda f: f.stat().st_mtime, default=None)
        found = best or latest_checkpoint(self.folder)[0]
        if found is None:
            raise ValueError(
                f'a work dir must hold a checkpoint (best_*.pth, epoch_*.pth), got none in '
                f'{self.folder}; train for an epoch, or name one: --checkpoint FILE'
            )
        return found

    def loaded(self) -> list[tuple[str, str]]:
        """(file, table of what was taken from it) of every start from other weights, from the logs."""
        found: dict[str, str] = {}
        for log in sorted(self.folder.glob('*/*.log')):
            found |= dict(LOADED.findall(log.read_text(encoding='utf-8', errors='replace')))
        return [*found.items()]

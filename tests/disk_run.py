"""Two epochs of training, on a disk that is full in the second, and then with room again.

    unshare --user --map-root-user --mount python tests/disk_run.py DATA WORK_DIR --tmpfs
    python tests/disk_run.py DATA WORK_DIR --quota
    python tests/disk_run.py DATA WORK_DIR

Without an option there is room from the beginning. The tmpfs is mounted at WORK_DIR; its size leaves
room for one and a half checkpoints. The quota is the largest size of a file (RLIMIT_FSIZE).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
from pathlib import Path

import conftest  # noqa: F401 - one thread
import tiny_run
from mmengine.runner import Runner

import mmdetr_plugin.engine.command_line as command_line
from mmdetr_plugin.checkpoints import read_checkpoint


class Disk:
    """How full a disk is, as a run sees it."""

    def fill(self, folder: Path) -> None:
        """Leave room for half of a checkpoint."""

    def empty(self, folder: Path) -> None:
        """Leave as much room as there was."""


class Tmpfs(Disk):
    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64M', 'none', str(folder)], check=True)

    def fill(self, folder: Path) -> None:
        size = (folder / 'epoch_1.pth').stat().st_size
        used = sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())
        self._resize(folder, used + size // 2)

    def empty(self, folder: Path) -> None:
        self._resize(folder, 64 << 20)

    def _resize(self, folder: Path, size: int) -> None:
        subprocess.run(['mount', '-o', f'remount,size={size}', str(folder)], check=True)


class Quota(Disk):
    def fill(self, folder: Path) -> None:
        half = (folder / 'epoch_1.pth').stat().st_size // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (half, resource.RLIM_INFINITY))

    def empty(self, folder: Path) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


def whole(folder: Path) -> str:
    """The checkpoints, each of which is read, and what was left of files that were not finished."""
    names = sorted(file.name for file in folder.glob('epoch_*.pth'))
    for name in names:
        read_checkpoint(folder / name)
    return ' '.join([*names, *(file.name for file in folder.glob('.*.tmp'))])


def train(data: Path, work_dir: Path, workers: int, disk: Disk) -> None:
    """Ends with OSError where the disk is full."""

    def act(runner: Runner, batch: dict) -> None:
        if runner.epoch == 1:
            disk.fill(work_dir)

    cfg = tiny_run.config(data, work_dir, epochs=2, workers=workers)
    cfg.default_hooks.checkpoint.save_best = None
    command_line.set_resume(argparse.ArgumentParser(), cfg, 'auto')
    tiny_run.train(cfg, f'on a disk {disk}', tiny_run.BeforeStep(act))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('data', type=Path)
    parser.add_argument('work_dir', type=Path)
    parser.add_argument('--tmpfs', action='store_true')
    parser.add_argument('--quota', action='store_true')
    parser.add_argument('--workers', type=int, default=0)
    args = parser.parse_args()
    disk = Tmpfs(args.work_dir) if args.tmpfs else Quota() if args.quota else Disk()
    try:
        train(args.data, args.work_dir, args.workers, disk)
    except OSError as error:
        disk.empty(args.work_dir)
        print(error)
        print('left:', whole(args.work_dir))
        train(args.data, args.work_dir, args.workers, Disk())
        print('resumed:', whole(args.work_dir).split()[-1])


if __name__ == '__main__':
    main()

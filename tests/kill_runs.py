"""Kill a training run at random moments, resume it each time, and look at what it leaves.

    python tests/kill_runs.py FOLDER --kills 30

After every kill each checkpoint in the work dir is whole and the run goes on from the last one; when
it ends, its files are those of a run that nobody killed. Every third kill waits until a file is being
written. The libraries are imported once: the runs are forked.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import time
from pathlib import Path

import conftest  # noqa: F401 - one thread
import tiny_run
import torch.utils.cpp_extension  # noqa: F401 - else imported by every run, as all of components
from mmengine.hooks import Hook
from mmengine.runner import Runner

import mmdetr_plugin.engine.command_line as command_line
from mmdetr_plugin import components  # noqa: F401
from mmdetr_plugin.checkpoints import read_checkpoint
from mmdetr_plugin.checkpoints.resume import latest_checkpoint
from mmdetr_plugin.ops import deformable_cpu  # noqa: F401

EPOCHS = 6


class Report(Hook):
    """Writes the epoch that training starts after."""

    priority = 'VERY_HIGH'

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def before_train(self, runner: Runner) -> None:
        os.write(self.pipe, bytes([runner.epoch]))


def start(data: Path, folder: Path) -> tuple[int, int]:
    """A run in a process of its own, begun or resumed: its id and the epoch it starts after."""
    cfg = tiny_run.config(data, folder, EPOCHS)
    receiver, sender = os.pipe()
    process = os.fork()
    if process == 0:
        log = os.open(folder.with_suffix('.log'), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            command_line.set_resume(argparse.ArgumentParser(), cfg, 'auto')
            tiny_run.train(cfg, f'{folder.name} {os.getpid()}', Report(sender))
        except BaseException as error:  # noqa: BLE001 - nothing may return into the parent
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    os.close(sender)
    epoch = os.read(receiver, 1)
    os.close(receiver)
    if not epoch:
        raise RuntimeError(f'a run failed; see {folder.with_suffix(".log")}')
    return process, epoch[0]


def ended(process: int, wait: bool = False) -> bool:
    """Whether a run has come to its end by itself."""
    done, status = os.waitpid(process, 0 if wait else os.WNOHANG)
    if done and os.waitstatus_to_exitcode(status):
        raise RuntimeError(f'a run failed with {os.waitstatus_to_exitcode(status)}; see its log')
    return bool(done)


def kill(process: int, folder: Path, delay: float, writing: bool) -> bool:
    """SIGKILL after ``delay`` seconds, and then while a file is being written; False if too late."""
    time.sleep(delay)
    while writing and not any(folder.glob('.*.tmp')):
        if ended(process):
            return False
    if ended(process):
        return False
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if file.is_file()}


def check_whole(folder: Path) -> int:
    """Read every checkpoint; the epoch of the one to go on from."""
    for file in folder.glob('[!.]*.pth'):
        read_checkpoint(file)
    latest, faults = latest_checkpoint(folder)
    assert not faults, faults
    assert latest is not None or not any(folder.glob('[!.]*.pth')), files(folder)
    return int(latest.stem.removeprefix('epoch_')) if latest else 0


def check_equal(folder: Path, whole: Path) -> None:
    assert files(folder) == files(whole), files(folder) ^ files(whole)
    for file in whole.glob('*.pth'):
        pair = (read_checkpoint(place / file.name) for place in (folder, whole))
        assert not (found := list(tiny_run.different(*pair))), (file.name, found[:5])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    parser.add_argument('--kills', type=int, default=30)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    data = tiny_run.make_data(args.folder / 'digits')
    whole = args.folder / 'whole'
    process, _ = start(data, whole)
    begun = time.monotonic()
    ended(process, wait=True)
    span = time.monotonic() - begun

    counts = {'kills': 0, 'while writing': 0, 'runs': 0}
    while counts['kills'] < args.kills:
        counts['runs'] += 1
        folder = args.folder / f'run_{counts["runs"]}'
        expected, running = 0, True
        while running:
            process, epoch = start(data, folder)
            assert epoch == expected, f'{folder} went on from {epoch}, not {expected}'
            writing = counts['kills'] % 3 == 2
            delay = chance.uniform(0, span / (4 if writing else 2))
            running = counts['kills'] < args.kills and kill(process, folder, delay, writing)
            if running:
                counts['kills'] += 1
                counts['while writing'] += any(folder.glob('.*.tmp'))
                expected = check_whole(folder)
            elif counts['kills'] == args.kills:
                ended(process, wait=True)
        check_equal(folder, whole)
    print(json.dumps(counts))


if __name__ == '__main__':
    main()

"""How many threads torch computes with where other processes want the same processors.

Threads of one operation wait for each other. Where they share processors with other processes, one of
them is nearly always waiting for its turn, and the others wait for it: two threads do less than one.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

WAITING = {'GOMP_SPINCOUNT': '20000'}
"""What the tools set before torch is loaded, unless this or OMP_WAIT_POLICY is set: how often a waiting
thread of libgomp looks before it sleeps. Its own default, 300000, takes longer than most waits."""
TASKS, PROCESSORS = Path('/proc/self/task'), Path('/proc/stat')
ENOUGH = 0.8
"""Threads that get at least this part of the time in which they could run are not reduced."""
WHOLE = 0.7
"""An idle processor of which at least this part is idle gets a thread."""


@dataclass(frozen=True)
class Clocks:
    """Times so far, in seconds.

    Attributes:
        at: of the clock on the wall.
        tasks: for each thread of this process the time it ran, and the time it waited for its turn.
        idle: time in which the processors that this process may use were idle, added up.
    """

    at: float
    tasks: dict[str, tuple[float, float]]
    idle: float


def read_clocks() -> Clocks | None:
    """The clocks of Linux; None where the system has none."""
    tasks = {}
    try:
        for task in TASKS.iterdir():
            try:
                ran, waited, _ = (task / 'schedstat').read_text().split()
            except (FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                continue
            tasks[task.name] = int(ran) / 1e9, int(waited) / 1e9
        idle, usable = 0, {f'cpu{i}' for i in os.sched_getaffinity(0)}
        for line in PROCESSORS.read_text().splitlines():
            name, *ticks = line.split()
            if name in usable:
                idle += int(ticks[3]) + int(ticks[4])  # idle, and idle while a disk works
    except (OSError, ValueError, AttributeError):
        return None
    return Clocks(time.perf_counter(), tasks, idle / os.sysconf('SC_CLK_TCK')) if tasks else None


def wanted(threads: int, most: int, share: float, idle: float) -> int:
    """The number of threads to go on with.

    Args:
        threads: the number so far.
        most: the largest number.
        share: of :func:`share_of_time`.
        idle: number of idle processors.
    """
    if share < ENOUGH:
        return max(1, int(threads * share))
    return min(most, threads + int(idle + 1 - WHOLE))


def share_of_time(before: Clocks, now: Clocks) -> float:
    """Part of the time in which they could run that the threads of this process did run."""
    ran = waited = 0.0
    for task, (task_ran, task_waited) in now.tasks.items():
        ran_before, waited_before = before.tasks.get(task, (0.0, 0.0))
        ran += task_ran - ran_before
        waited += task_waited - waited_before
    return ran / (ran + waited) if ran > 0 else 1.0


class SharedThreads:
    """Adapts torch's number of threads to the processors that are free, whenever it is asked to.

    The loops of deformable attention have as many threads as torch.

    Args:
        interval: seconds that must pass between two changes.
    """

    def __init__(self, interval: float = 2.0) -> None:
        self.most = torch.get_num_threads()
        self.interval = interval
        self.last = read_clocks()

    def adapt(self) -> float | None:
        """Change the number of threads if that helps; if so, the share that they had before."""
        before = self.last
        if before is None or time.perf_counter() - before.at < self.interval:
            return None
        self.last = now = read_clocks()
        if now is None:
            return None
        threads = torch.get_num_threads()
        share = share_of_time(before, now)
        changed = wanted(threads, self.most, share, (now.idle - before.idle) / (now.at - before.at))
        if changed == threads:
            return None
        torch.set_num_threads(changed)
        return share

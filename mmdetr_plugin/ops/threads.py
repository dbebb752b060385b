"""Threads for compiled loops, which run without Python's global lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch


def run_units(kernel: Callable[..., None], units: int, worth: int, *args: object) -> None:
    """Call ``kernel(start, stop, *args)`` until all units are done.

    Args:
        units: number of units; ``start`` and ``stop`` lie between 0 and it.
        worth: the number of threads that the work is worth; torch's number is the limit.
    """
    threads = min(torch.get_num_threads(), units, worth)
    if threads < 2:  # 0 if there are no queries
        kernel(0, units, *args)
        return
    step = -(-units // (4 * threads))  # more portions than threads: a thread may be delayed
    starts = iter(range(0, units, step))

    def work() -> None:
        for start in starts:
            kernel(start, min(start + step, units), *args)

    others = [_pool(os.getpid()).submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads of this process: a forked process would inherit the pool without its threads."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix='loops')

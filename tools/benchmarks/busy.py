#!/usr/bin/env python3
"""Training steps a second, alone and beside busy processes, for several ways in which threads wait.

    python tools/benchmarks/busy.py --json busy.json
    python tools/benchmarks/busy.py tools plain OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 --rounds 5
    python tools/benchmarks/busy.py GOMP_SPINCOUNT=1000,OMP_PROC_BIND=true --others 2

A policy is a list of environment variables (plain: none of them; tools: what the tools set, with
SharedThreadsHook and KeepMemoryHook). Each has a process that trains the model of `make demo` on
made-up images. The processes take turns, in every round alone and then beside OTHERS endless loops of
one thread each.

"got" is the rate beside them in parts of the best rate alone, "a loop got" the part of a processor that
each of them got meanwhile. What the file of --json has is kept, and further rounds are added.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from mmdetr_plugin.engine.freed_memory import keep_freed_memory
from mmdetr_plugin.engine.threads import WAITING, SharedThreads
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.testing import TINY, config_path, quiet, shrink, write_json
from mmdetr_plugin.testing.benchmark import machine, table
from mmdetr_plugin.testing.inputs import samples

TOOLS, PLAIN = 'tools', 'plain'
READY = 'ready\n'
POLICIES = (TOOLS, PLAIN, 'OMP_WAIT_POLICY=passive', 'GOMP_SPINCOUNT=1000', 'OMP_NUM_THREADS=1')
HEADER = ['policy', 'alone, steps/s', 'beside, steps/s', 'got', 'a loop got', 'of its share']
LOOP = 'while True: pass'


@dataclass
class Figures:
    """What a policy was measured at, one number for each round.

    Attributes:
        alone, beside: steps a second.
        loop: part of one processor that a loop got while the process trained beside it.
    """

    policy: str
    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)

    def cells(self, best: float) -> list[str]:
        """Of the table; ``best`` is the best rate alone of all policies."""
        alone, beside, loop = median(self.alone), median(self.beside), median(self.loop)
        parts = beside / best, loop, beside / best / loop
        return [f'`{self.policy}`', f'{alone:.2f}', f'{beside:.2f}', *(f'{p:.0%}' for p in parts)]


class Training:
    """A process that trains when and as long as it is asked to, and is stopped in between."""

    def __init__(self, policy: str, small: bool) -> None:
        chosen = variables(policy)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(('OMP_', 'GOMP_'))}
        options = ['--small'] * small + ['--adapt'] * (policy == TOOLS)
        self.process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', __file__, '--child', *options],
            env={**inherited, **chosen},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> None:
        """Return once the process is ready, and stop it: threads that wait may use a processor."""
        while self._read() != READY:  # packages may print when they are imported
            pass
        self.process.send_signal(signal.SIGSTOP)

    def rate(self, seconds: float) -> float:
        """Train; steps a second."""
        self.process.send_signal(signal.SIGCONT)
        print(seconds, file=self.process.stdin, flush=True)
        answer = float(self._read())
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _read(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError('the process that trains has ended; its error is printed above')
        return line


def variables(policy: str) -> dict[str, str]:
    """The environment variables of a policy.

    Raises:
        ValueError: it is neither a name nor a list of variables.
    """
    if policy in (TOOLS, PLAIN):
        return WAITING if policy == TOOLS else {}
    pairs = [pair.partition('=') for pair in policy.split(',')]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError(f'a policy must be {TOOLS}, {PLAIN} or NAME=VALUE,..., got {policy!r}')
    return {name: value for name, _, value in pairs}


def train(small: bool, adapt: bool) -> None:
    """Be that process: for each line of stdin, a number of seconds, train and print the rate."""
    if adapt:
        keep_freed_memory()
    with quiet(io.StringIO()):
        cfg = Config.fromfile(config_path('digits_dino'))
        cfg.model = shrink(cfg.model, TINY) if small else cfg.model
        model = MODELS.build(cfg.model).train()
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
        batch = samples(cfg.train_dataloader.batch_size, (160, 160), 3, 'cpu')
        for sample in batch:
            sample.gt_instances.labels %= cfg.model.num_classes
        pixels = torch.randint(0, 256, (len(batch), 3, 160, 160), dtype=torch.uint8)
        data = {'inputs': list(pixels), 'data_samples': batch}
        model.train_step(data, optimizer)  # the first compiles and allocates
    threads = SharedThreads()
    print(READY, end='', flush=True)
    for line in sys.stdin:
        steps, begun, seconds = 0, time.perf_counter(), 0.0
        while seconds < float(line):
            model.train_step(data, optimizer)
            if adapt:
                threads.adapt()
            steps, seconds = steps + 1, time.perf_counter() - begun
        print(steps / seconds if steps else 0.0, flush=True)


@contextlib.contextmanager
def loops(number: int) -> Iterator[list[float]]:
    """Endless loops of one thread; afterwards the list has the part of a processor that each got."""
    begun, parts = time.perf_counter(), []
    running = [subprocess.Popen([sys.executable, '-S', '-c', LOOP]) for _ in range(number)]
    try:
        yield parts
    finally:
        for loop in running:
            loop.send_signal(signal.SIGSTOP)
        seconds = time.perf_counter() - begun
        for loop in running:
            loop.kill()
            _, loop.returncode, usage = os.wait4(loop.pid, 0)
            parts.append((usage.ru_utime + usage.ru_stime) / seconds)


def measure(figures: Sequence[Figures], args: argparse.Namespace) -> None:
    """Start a process for each policy and add rounds, in turning order."""
    running: list[Training] = []
    try:
        running += [Training(one.policy, args.small) for one in figures]
        for process in running:
            process.wait()
        order = list(zip(figures, running))
        for _ in range(args.rounds):
            for one, process in order:
                process.rate(args.settle)
                one.alone.append(process.rate(args.seconds))
                with loops(args.others) as parts:
                    process.rate(args.settle)
                    one.beside.append(process.rate(args.seconds))
                one.loop.append(median(parts))
                last = f'{one.alone[-1]:.2f}  {one.beside[-1]:.2f}  {one.loop[-1]:.0%}'
                print(f'{one.policy}  {last}', file=sys.stderr)
            order.reverse()
    finally:
        for process in running:
            process.end()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'policies', nargs='*', metavar='POLICY', help='tools, plain or NAME=VALUE,...'
    )
    parser.add_argument('--others', type=int, default=6, help='busy processes (6)')
    parser.add_argument('--seconds', type=float, default=5, help='of each measurement (5)')
    parser.add_argument('--settle', type=float, default=4, help='seconds of training before it (4)')
    parser.add_argument('--rounds', type=int, default=3, help='measurements of each policy (3)')
    parser.add_argument('--small', action='store_true', help='a tiny model: a test')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there too')
    for name in ('--child', '--adapt'):
        parser.add_argument(name, action='store_true', help=argparse.SUPPRESS)
    words = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(words)
    if args.child:
        train(args.small, args.adapt)
        return 0
    if args.others < 1 or args.rounds < 1:
        parser.error('--others and --rounds must be at least 1')
    found: dict[str, Figures] = {}
    if args.json and args.json.is_file():
        rows = json.loads(args.json.read_text())['rows']
        found = {row['policy']: Figures(**row) for row in rows}
    chosen = [found.setdefault(p, Figures(p)) for p in args.policies or POLICIES]
    about = machine('cpu')
    try:
        measure(chosen, args)
    except ValueError as error:
        parser.error(str(error))
    best = max(median(one.alone) for one in found.values())
    print(f'{about}\n\n{table([HEADER, *(one.cells(best) for one in found.values())])}', end='')
    if args.json:
        command = shlex.join(['python', 'tools/benchmarks/busy.py', *words])
        figures = [asdict(one) for one in found.values()]
        write_json(args.json, {'machine': about, 'command': command, 'rows': figures})
    return 0


if __name__ == '__main__':
    sys.exit(main())

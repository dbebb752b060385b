"""Compares ours and a peer in one process, on the same weights and inputs.

Every script of `tools/benchmarks` describes its cases and passes them to a :class:`Contest`, which
checks that the results agree, measures times in alternating order and prints one table.

Peak memory is the memory that a run adds to what was allocated before, so it includes gradients but not
weights. On a GPU it is read from torch.cuda.max_memory_allocated, on the CPU from the allocations that
torch.profiler records; memory that other libraries allocate there is not seen.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # its messages would appear between the rows

import torch
from torch import Tensor, nn

from ..engine.freed_memory import keep_freed_memory
from .runs import write_json

Result = Mapping[str, Tensor]
Run = Callable[[], Result]

OUTPUTS, GRADIENTS = 1e-4, 1e-3
"""Largest differences allowed in single precision. Outputs: the largest difference, divided by the
largest entry if that is above 1, such as a loss of 300. Gradients: the norm of the difference of all of
them together, divided by the norm of the peer's."""
SINGLE_GRADIENT = 1e-2
"""The same for the gradient of one parameter. It is larger because rounding moves a few sampling points
over the border of a cell, where the gradient of bilinear interpolation jumps."""
ALL = 'grad of all'
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
PACKAGES = (
    'torch',
    'mmdet',
    'mmcv',
    'numba',
    'transformers',
    'deformops',
    'onnxruntime',
    'openvino',
    'pycocotools',
    'faster-coco-eval',
)


@dataclass(frozen=True)
class Row:
    """A row of the table; ``ratio`` is the peer's median time divided by this one's."""

    case: str
    who: str
    median_ms: float
    fastest_ms: float
    ratio: float
    peak_mib: float | None
    difference: float | None

    def cells(self) -> list[str]:
        peak = '-' if self.peak_mib is None else f'{self.peak_mib:.0f}'
        difference = '-' if self.difference is None else f'{self.difference:.0e}'
        times = [f'{t:.3g}' if t < 100 else f'{t:.0f}' for t in (self.median_ms, self.fastest_ms)]
        return [self.case, self.who, *times, f'{self.ratio:.2f}', peak, difference]


HEADER = ['case', 'who', 'median ms', 'fastest ms', 'times faster', 'peak MiB', 'difference']


def parser(
    doc: str, repeats: int = 5, devices: Sequence[str] = ('cpu', 'cuda')
) -> argparse.ArgumentParser:
    """The options that all scripts share; ``doc`` is the script's docstring."""
    out = argparse.ArgumentParser(description=doc.strip().splitlines()[0])
    out.add_argument('--device', choices=devices, default='cpu')
    out.add_argument('--threads', type=int, default=2, help='of torch, on the CPU')
    out.add_argument('--repeats', type=int, default=repeats, help='timed runs of each')
    out.add_argument(
        '--clock',
        choices=CLOCKS,
        default='wall',
        help='cpu: processor time of all threads, for a machine that is busy with other work too',
    )
    out.add_argument(
        '--keep-memory',
        action='store_true',
        help='both sides keep freed memory, as in a run with KeepMemoryHook',
    )
    out.add_argument('--json', type=Path, metavar='FILE', help='write the figures there too')
    out.add_argument(
        '--keep',
        action='store_true',
        help='an interrupted call: do not measure again what the file of --json has',
    )
    return out


def parse(
    options: argparse.ArgumentParser, words: Sequence[str] | None = None
) -> argparse.Namespace:
    """The arguments, once the device is there and the threads are set."""
    args = options.parse_args(words)
    if args.repeats < 1 or args.threads < 1:
        options.error('--repeats and --threads must be at least 1')
    if args.device == 'cuda' and not torch.cuda.is_available():
        options.error(
            '--device cuda needs a GPU that torch can use, and torch.cuda.is_available() is False '
            'here; leave it out to measure on the CPU'
        )
    torch.set_num_threads(args.threads)
    if args.keep_memory and not keep_freed_memory():
        options.error('--keep-memory needs glibc, and options of malloc that are not set')
    # fp32 means 32 bits: with the default of convolutions, TF32, folded norms change the third digit.
    torch.backends.cudnn.allow_tf32 = False
    words = sys.argv[1:] if words is None else words
    args.command = shlex.join(['python', f'tools/benchmarks/{options.prog}', *words])
    return args


def machine(device: str) -> str:
    """Processor, threads and versions, in one line."""
    versions = [f'Python {platform.python_version()}']
    for name in PACKAGES:
        try:
            versions.append(f'{name} {metadata.version(name)}')
        except metadata.PackageNotFoundError:
            continue
    place = f'{os.cpu_count()} x {_processor()}, {torch.get_num_threads()} threads'
    if device == 'cuda':
        place = f'{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}; {place}'
    return f'{place}, load {os.getloadavg()[0]:.1f}; {", ".join(versions)}'


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


class Contest:
    """Cases of one script, their checks and times.

    Args:
        args: of :func:`parse`.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.machine = machine(args.device)  # before the load is ours
        self.rows: list[Row] = []
        if args.keep and args.json and args.json.is_file():
            self.rows = [Row(**row) for row in json.loads(args.json.read_text())['rows']]

    def compare(
        self,
        case: str,
        runs: Mapping[str, Run],
        check: Mapping[str, Run] | None = None,
        tolerance: float | None = OUTPUTS,
        memory: bool = True,
    ) -> None:
        """Time runs that compute the same; the first is the peer. The file of ``--json`` is written.

        Args:
            case: name in the table.
            runs: functions by name, returning tensors by name; names of gradients begin with ``grad``.
            check: runs to compare instead of the timed ones, where dropout makes those differ.
            tolerance: largest difference of outputs. None allows any (half precision); it is printed.
            memory: False if the memory is not allocated by torch and so cannot be measured.

        Raises:
            ValueError: the results differ by more than allowed.
        """
        if {(case, who) for who in runs} <= {(row.case, row.who) for row in self.rows}:
            return
        differences = agreement(case, check or runs, tolerance)
        peaks = {who: self._peak(run) if memory else None for who, run in runs.items()}
        for run in runs.values():
            run()
        times: dict[str, list[float]] = {who: [] for who in runs}
        order = list(runs)
        for _ in range(self.args.repeats):
            for who in order:
                times[who].append(self._time(runs[who]))
            order.reverse()
        medians = {who: statistics.median(t) for who, t in times.items()}
        first = medians[next(iter(runs))]
        for who, median in medians.items():
            figures = 1e3 * median, 1e3 * min(times[who]), first / median
            self.rows.append(Row(case, who, *figures, peaks[who], differences.get(who)))
            print(*self.rows[-1].cells(), sep='  ', file=sys.stderr, flush=True)
        if self.args.json:
            rows = [asdict(row) for row in self.rows]
            content = {'machine': self.machine, 'command': self.args.command, 'rows': rows}
            write_json(self.args.json, content)

    def finish(self) -> None:
        """Print the table."""
        print(f'{self.machine}\n')
        print(table([HEADER, *(row.cells() for row in self.rows)]), end='')

    def _time(self, run: Run) -> float:
        self._synchronize()
        clock = CLOCKS[self.args.clock]
        begun = clock()
        run()
        self._synchronize()
        return clock() - begun

    def _synchronize(self) -> None:
        if self.args.device == 'cuda':
            torch.cuda.synchronize()

    def _peak(self, run: Run) -> float:
        """MiB that a run adds, at its highest point."""
        return (cuda_peak if self.args.device == 'cuda' else cpu_peak)(run) / 2**20


def cuda_peak(run: Run) -> int:
    """Bytes that a run adds on the current GPU."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def cpu_peak(run: Run) -> int:
    """Bytes of tensors that a run adds on the host."""
    with torch.profiler.profile(profile_memory=True) as profile:
        run()
    events = profile.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == '[memory]']
    total = highest = 0
    for _, change in sorted(changes):
        total += change
        highest = max(highest, total)
    return highest


def agreement(case: str, runs: Mapping[str, Run], tolerance: float | None) -> dict[str, float]:
    """Largest difference of each run from the first.

    Raises:
        ValueError: an output differs by more than ``tolerance`` (None allows any difference), or a
            gradient by more than its own limit.
    """
    results = {who: {k: v.detach().clone() for k, v in run().items()} for who, run in runs.items()}
    (peer, expected), *others = results.items()
    out = {}
    for who, got in others:
        if got.keys() != expected.keys():
            raise ValueError(
                f'{case}: {who} and {peer} must return the same names, got '
                f'{sorted(got.keys() ^ expected.keys())} in only one of them; compare equal things'
            )
        differences = _differences(in_order_of(expected, got), expected)
        for name, difference in differences.items():
            allowed = _allowed(name, tolerance)
            if not difference <= allowed:
                raise ValueError(
                    f'{case}: {name} of {who} must be within {allowed:g} of {peer}, got a difference '
                    f'of {difference:.2e}; the times of unequal results are not compared'
                )
        counted = [d for name, d in differences.items() if not name.startswith('grad')]
        out[who] = max([*counted, differences.get(ALL, 0.0)])
    return out


def in_order_of(expected: Result, got: Result) -> Result:
    """``got`` with its queries in the order of the nearest ones of ``expected``.

    Two-stage models rank tokens; where scores are nearly equal, queries swap places.
    """
    if set(got) != {'logits', 'boxes'}:
        return got
    theirs, ours = (torch.cat((x['logits'], x['boxes']), -1).float() for x in (expected, got))
    # By products, rounding errors would swap queries that are nearly equal.
    exact = 'donot_use_mm_for_euclid_dist'
    nearest = torch.cdist(theirs, ours, compute_mode=exact).argmin(-1, keepdim=True)
    return {name: x.gather(1, nearest.expand(-1, -1, x.shape[-1])) for name, x in got.items()}


def _differences(got: Result, expected: Result) -> dict[str, float]:
    """Differences by name, and that of all gradients together under the name ALL."""
    changes = {name: got[name].double() - value.double() for name, value in expected.items()}
    grads = {k: float(v.double().norm()) for k, v in expected.items() if k.startswith('grad')}
    total = math.hypot(*grads.values())
    differences = {}
    for name, change in changes.items():
        if name in grads:  # those that vanish are rounding errors
            floor = max(grads[name], GRADIENTS * total, 1e-30)
            differences[name] = float(change.norm()) / floor
        else:
            differences[name] = _largest(change) / max(_largest(expected[name]), 1.0)
    if grads:
        errors = math.hypot(*(float(changes[name].norm()) for name in grads))
        differences[ALL] = errors / max(total, 1e-30)
    return differences


def _allowed(name: str, tolerance: float | None) -> float:
    if tolerance is None:
        return math.inf
    if not name.startswith('grad'):
        return tolerance
    return GRADIENTS if name == ALL else SINGLE_GRADIENT


def _largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown of a header and rows."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ['| ' + ' | '.join(c.ljust(w) for c, w in zip(row, widths)) + ' |' for row in rows]
    lines.insert(1, '|' + '|'.join('-' * (w + 2) for w in widths) + '|')
    return '\n'.join(lines) + '\n'


@contextmanager
def without_dropout(*models: nn.Module) -> Iterator[None]:
    """While active, nothing is dropped, so that results of training steps can be compared."""
    parts = [m for model in models for m in model.modules() if hasattr(m, 'dropout')]
    numbers: list[tuple[nn.Module, str, float]]
    numbers = [(m, 'dropout', m.dropout) for m in parts if isinstance(m.dropout, float)]
    modules = [m for model in models for m in model.modules() if isinstance(m, nn.Dropout)]
    numbers += [(m, 'p', m.p) for m in modules]
    for part, name, _ in numbers:
        setattr(part, name, 0.0)
    try:
        yield
    finally:
        for part, name, value in numbers:
            setattr(part, name, value)

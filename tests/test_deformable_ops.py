"""Every backend of the sampling equals its definition, forward and backward."""

from __future__ import annotations

import itertools
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from cli import TOOLS, load
from cli import run as run_command
from torch import Tensor

from mmdetr_plugin.ops import deformable, deformable_cuda
from mmdetr_plugin.ops.deformable import choose_backend, deformable_attention
from mmdetr_plugin.testing.attention_check import naive
from mmdetr_plugin.testing.benchmark import OUTPUTS, agreement

SHAPES = ((5, 8), (3, 4), (2, 3), (1, 2), (1, 1))
HALVES = (torch.float16, torch.bfloat16)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
"""Largest difference, as a share of the largest number."""

needs_numba = pytest.mark.skipif(not deformable.has_numba(), reason='needs numba')
needs_cuda_ops = pytest.mark.skipif(
    not deformable_cuda.has_mmcv(), reason='needs an mmcv built for CUDA'
)
on_gpu = [pytest.mark.gpu, needs_cuda_ops]
needs_deformops = pytest.mark.skipif(
    not deformable_cuda.has_deformops(), reason='needs deformops (Python 3.12, torch 2.11)'
)
CASES = [
    *(pytest.param('grid', dtype, 'cpu') for dtype in TOLERANCE),
    *(pytest.param('compiled', dtype, 'cpu', marks=needs_numba) for dtype in TOLERANCE),
    *(pytest.param('deformops', dtype, 'cpu', marks=needs_deformops) for dtype in TOLERANCE),
    *(pytest.param('mmcv', dtype, 'cuda', marks=on_gpu) for dtype in TOLERANCE),
    *(pytest.param('grid', dtype, 'cuda', marks=on_gpu) for dtype in TOLERANCE),
    *(
        pytest.param('deformops', dtype, 'cuda', marks=[needs_deformops, *on_gpu])
        for dtype in (torch.float32, *HALVES)
    ),
]
ON_CPU = ['grid', pytest.param('compiled', marks=needs_numba)]


def inputs(levels: int, spread: float, queries: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Values, locations in the middle ``spread`` + 1 unit squares, weights that sum to 1."""
    generator = torch.Generator().manual_seed(levels)
    size = sum(h * w for h, w in SHAPES[:levels])
    value = torch.randn(2, size, 2, 8, generator=generator, dtype=torch.float64)
    place = torch.rand(2, queries, 2, levels, 3, 2, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, queries, 2, levels * 3, generator=generator, dtype=torch.float64)
    locations = (place - 0.5) * (1 + spread) + 0.5
    return value, locations, weights.softmax(-1).unflatten(-1, (levels, 3))


def run(sample: object, tensors: tuple[Tensor, ...], shapes: tuple) -> list[Tensor]:
    """Output, and gradients of a random projection of it."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    out = sample(leaves[0], shapes, *leaves[1:])
    generator = torch.Generator().manual_seed(9)
    direction = torch.randn(out.shape, generator=generator).to(out)
    return [out, *torch.autograd.grad((out * direction).sum(), leaves)]


def backend(name: str) -> object:
    return lambda *args: deformable_attention(*args, backend=name)


def assert_near(got: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for number, (x, y) in enumerate(zip(got, expected, strict=True)):
        difference = (x.double().cpu() - y).abs().max() / y.abs().max().clamp(min=1e-3)
        assert difference <= tolerance, f'tensor {number} is off by {difference:.1e}'


@pytest.mark.parametrize('levels', range(1, 6))
@pytest.mark.parametrize('spread', [0.0, 2.0])
@pytest.mark.parametrize(('name', 'dtype', 'device'), CASES)
def test_equals_the_definition(
    name: str, dtype: torch.dtype, device: str, levels: int, spread: float
) -> None:
    """Values and weights come in ``dtype``, places in single precision at least."""
    value, places, weights = inputs(levels, spread)
    exact = torch.promote_types(dtype, torch.float32)
    tensors = value.to(dtype), places.to(exact), weights.to(dtype)
    got = run(backend(name), tuple(x.to(device) for x in tensors), SHAPES[:levels])
    assert [x.dtype for x in got] == [dtype, dtype, exact, dtype]
    expected = run(naive, tuple(x.double() for x in tensors), SHAPES[:levels])
    assert_near(got, expected, TOLERANCE[dtype])


@pytest.mark.parametrize('name', ON_CPU)
def test_without_queries_there_is_nothing_to_sample(name: str) -> None:
    out, *grads = run(backend(name), inputs(2, 0.0, queries=0), SHAPES[:2])
    assert out.shape[1] == 0
    assert not grads[0].any()


@pytest.mark.parametrize('name', ON_CPU)
def test_samples_on_the_border_and_far_outside(name: str) -> None:
    """The outermost half cell fades to zero; cell centres give the cell; far away is nothing."""
    shapes = ((4, 4),)
    value = torch.arange(1.0, 17).view(1, 16, 1, 1).expand(-1, -1, -1, 8)
    x = torch.tensor([0.0, 0.125, 0.375, 0.875, 1.0, -0.125, 1.125, 7.0, -1e30])
    locations = torch.stack((x, torch.full_like(x, 0.125)), -1).view(1, -1, 1, 1, 1, 2)
    weights = torch.ones(1, len(x), 1, 1, 1)
    got = deformable_attention(value, shapes, locations, weights, backend=name)
    expected = torch.tensor([0.5, 1, 2, 4, 2, 0, 0, 0, 0])
    torch.testing.assert_close(got, expected[None, :, None].expand(-1, -1, 8))


@needs_numba
def test_places_that_are_no_numbers_read_nothing() -> None:
    """Nor does a sample see what it does not touch, were it infinite."""
    value = torch.ones(1, 4, 1, 8)
    value[:, 3] = math.inf
    places = torch.tensor([[math.nan, 0.2], [0.2, math.inf], [0.1, 0.1]]).view(1, 3, 1, 1, 1, 2)
    weights = torch.ones(1, 3, 1, 1, 1)
    out, *grads = run(backend('compiled'), (value, places, weights), ((2, 2),))
    assert out[0, :2].eq(0).all()
    assert out[0, 2].isfinite().all() and out[0, 2].gt(0).all()
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize('name', ON_CPU)
def test_half_precision_keeps_places_exact(name: str) -> None:
    """Locations never go through 16 bits, where a step is most of a cell of a large map."""
    shapes = ((1, 400),)
    value = (torch.arange(400.0) / 512).view(1, 400, 1, 1).expand(-1, -1, -1, 8)
    locations = torch.tensor([(300.25 + 0.5) / 400, 0.5]).view(1, 1, 1, 1, 1, 2)
    out = deformable_attention(
        value.bfloat16(), shapes, locations, torch.ones(1, 1, 1, 1, 1).bfloat16(), backend=name
    )
    assert out.dtype == torch.bfloat16
    assert (out * 512 - 300.25).abs().max() <= 1  # the rounding of the values alone


@pytest.mark.parametrize('name', ON_CPU)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    tensors = [x.requires_grad_() for x in inputs(2, 0.5)]
    sample = lambda *args: deformable_attention(args[0], SHAPES[:2], *args[1:], backend=name)  # noqa: E731
    assert torch.autograd.gradcheck(sample, tensors, fast_mode=True)


# ---- threads, compilation and cache of the compiled loops ----------------------------------------


@needs_numba
@pytest.mark.parametrize('queries', [1, 63, 64, 65, 130])
@pytest.mark.parametrize('threads', [1, 2, 5])
def test_threads_and_blocks_share_out_all_work(
    queries: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that are not full; more threads than heads, which then share out the levels."""
    from mmdetr_plugin.ops import deformable_cpu

    monkeypatch.setattr(deformable_cpu, 'SMALL', 1)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
    tensors = inputs(3, 0.5, queries)
    expected = run(backend('grid'), tensors, SHAPES[:3])
    assert_near(run(backend('compiled'), tensors, SHAPES[:3]), expected, 1e-10)


FORK = """
import os, torch
from mmdetr_plugin.ops import deformable_cpu
from mmdetr_plugin.ops.deformable import deformable_attention
torch.set_num_threads(2)
deformable_cpu.SMALL = 1
arguments = torch.rand(1, 6, 2, 8), ((2, 3),), torch.rand(1, 3, 2, 1, 1, 2), torch.ones(1, 3, 2, 1, 1)
before = deformable_attention(*arguments)
child = os.fork()
same = torch.equal(deformable_attention(*arguments), before)
if child == 0:
    os._exit(0 if same else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), torch.get_num_threads())
"""


@needs_numba
@pytest.mark.skipif(sys.platform == 'win32', reason='needs fork')
def test_fork_and_number_of_threads(tmp_path: Path) -> None:
    """A forked process starts threads of its own; torch keeps its number of threads."""
    assert run_command([sys.executable, '-W', 'ignore', '-c', FORK], tmp_path).split() == ['0', '2']


@needs_numba
def test_operator_is_one_for_torch() -> None:
    """Its schema, its shapes without values and its gradient hold under torch's own checks."""
    from mmdetr_plugin.ops import deformable_cpu

    _, places, weights = (x.float().requires_grad_() for x in inputs(2, 0.5))
    rows = torch.randn(2, 2, 54, 8, requires_grad=True)
    found = torch.library.opcheck(deformable_cpu._sample, (rows, places, weights, [5, 8, 3, 4]))
    assert len(found) > 2 and set(found.values()) == {'SUCCESS'}


@pytest.mark.parametrize('name', [*ON_CPU, pytest.param('deformops', marks=needs_deformops)])
def test_compiles_without_a_break(name: str) -> None:
    sample = torch.compile(backend(name), fullgraph=True, backend='aot_eager')
    tensors = tuple(x.float() for x in inputs(2, 0.5))
    expected = [x.double() for x in run(backend(name), tensors, SHAPES[:2])]
    assert_near(run(sample, tensors, SHAPES[:2]), expected, 1e-5)


@needs_numba
def test_no_cache_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmdetr_plugin.ops import vectors

    def njit(cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError('cannot cache function: no locator available')
        return lambda function: (function, options)

    monkeypatch.setattr(vectors, 'njit', njit)
    assert vectors.compiled(naive)[0] is naive


# ---- the libraries of others ---------------------------------------------------------------------


class Extension:
    """mmcv's two CUDA functions with their signatures, computed on the CPU."""

    def ms_deform_attn_forward(
        self, value: Tensor, sizes: Tensor, starts: Tensor, *rest: Tensor, im2col_step: int
    ) -> Tensor:
        shapes = tuple(map(tuple, sizes.tolist()))
        assert starts.tolist() == [0, *itertools.accumulate(h * w for h, w in shapes)][:-1]
        assert value.shape[0] % min(im2col_step, value.shape[0]) == 0
        return naive(value, shapes, *rest)

    def ms_deform_attn_backward(self, *args: Tensor, im2col_step: int) -> None:
        def differentiate() -> tuple[Tensor, ...]:
            leaves = [args[i].clone().requires_grad_() for i in (0, 3, 4)]
            out = self.ms_deform_attn_forward(
                leaves[0], *args[1:3], *leaves[1:], im2col_step=im2col_step
            )
            return torch.autograd.grad(out, leaves, args[5])

        with ThreadPoolExecutor(1) as other:  # within an operator nothing is differentiated
            for target, grad in zip(args[6:], other.submit(differentiate).result()):
                target.copy_(grad)


def test_mmcv_gets_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its op, played by the definition: 32 bits, whatever the values come in."""
    monkeypatch.setattr(deformable_cuda, '_mmcv_extension', Extension)
    value, places, weights = (x.float() for x in inputs(3, 1.0))
    tensors = value.bfloat16(), places, weights.bfloat16()
    expected = run(naive, tuple(x.double() for x in tensors), SHAPES[:3])
    assert_near(run(deformable_cuda.sample_mmcv, tensors, SHAPES[:3]), expected, 5e-3)


def test_deformops_gets_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and weights of one precision, places in single, weights of all levels in a row."""
    monkeypatch.setitem(sys.modules, 'deformops', ModuleType('deformops'))
    registry = ModuleType('deformops.registry')
    monkeypatch.setitem(sys.modules, 'deformops.registry', registry)

    def msda(value: Tensor, sizes: Tensor, starts: Tensor, places: Tensor, weights: Tensor, **_):
        assert (value.dtype, weights.dtype, places.dtype) == (*[torch.bfloat16] * 2, torch.float32)
        weights = weights.unflatten(-1, places.shape[3:5])
        return naive(value, tuple(map(tuple, sizes.tolist())), places, weights)

    registry.msda = msda
    value, places, weights = (x.float() for x in inputs(3, 1.0))
    out = deformable_cuda.sample_deformops(value.bfloat16(), SHAPES[:3], places, weights)
    expected = naive(value.double(), SHAPES[:3], places.double(), weights.double())
    assert_near([out], [expected], 5e-2)


@pytest.mark.parametrize(
    ('dtype', 'installed', 'expected'),
    [
        (torch.float32, {'mmcv', 'deformops'}, 'mmcv'),
        (torch.bfloat16, {'mmcv', 'deformops'}, 'deformops'),
        (torch.float16, {'mmcv', 'deformops'}, 'deformops'),
        (torch.bfloat16, {'mmcv'}, 'mmcv'),
        (torch.float32, {'deformops'}, 'deformops'),
        (torch.float32, set(), 'grid'),
        (torch.float64, {'mmcv', 'deformops'}, 'grid'),
    ],
)
def test_choice_on_a_gpu(
    dtype: torch.dtype, installed: set, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('mmcv', 'deformops'):
        need = (None, lambda name=name: name in installed, '')
        monkeypatch.setitem(deformable.NEEDS, name, need)
    value = SimpleNamespace(is_cuda=True, dtype=dtype, device=torch.device('cuda'), shape=(8,))
    assert choose_backend(value) == expected


def test_wide_heads_are_left_to_torch() -> None:
    assert choose_backend(torch.ones(1, 1, 1, 129)) == 'grid'


def test_unknown_backend_is_told() -> None:
    tensors = inputs(1, 0.0)
    with pytest.raises(ValueError, match=r"backend must be one of .*'grid'.* got 'cuda'; change"):
        deformable_attention(tensors[0], SHAPES[:1], *tensors[1:], backend='cuda')


@pytest.mark.parametrize(
    ('installed', 'message'),
    [
        (False, r"'mmcv' must be installed, but is not; install an mmcv that was built for CUDA"),
        (True, r"'mmcv' must be given tensors on cuda, got cpu; move them, or leave"),
    ],
)
def test_backend_that_cannot_run_is_told(
    installed: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, _, hint = deformable.NEEDS['mmcv']
    monkeypatch.setitem(deformable.NEEDS, 'mmcv', (device, lambda: installed, hint))
    tensors = inputs(1, 0.0)
    with pytest.raises(ValueError, match=message):
        deformable_attention(tensors[0], SHAPES[:1], *tensors[1:], backend='mmcv')


def test_benchmark_compares_equals() -> None:
    """Its other ways to write the sampling give the same numbers, also off the map."""
    deform_attn = load(TOOLS / 'benchmarks' / 'deform_attn.py')
    shapes = SHAPES[:3]
    tensors = deform_attn.inputs(shapes, 2, 2, 8, 3, None)
    for run in (deform_attn.forward, deform_attn.both):
        runs = {
            name: partial(run, sample, shapes, torch.float32, tensors)
            for name, sample in deform_attn.contenders('cpu', compiler=False).items()
        }
        assert next(iter(runs)) == 'mmcv, PyTorch'
        assert {'ours, grid', 'gather', 'embedding_bag'} < runs.keys()
        assert max(agreement('', runs, OUTPUTS).values()) < OUTPUTS

"""Settings of the whole run; those of the environment come before anything that reads them."""

import os

# The models of the tests are so small that a second thread only costs, on a busy machine ten times
# what it brings.
for library in ('OMP', 'NUMBA'):
    os.environ.setdefault(f'{library}_NUM_THREADS', '1')

import ctypes  # noqa: E402
import gc  # noqa: E402
from collections import OrderedDict  # noqa: E402
from collections.abc import Iterator  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402


@pytest.fixture(scope='module', autouse=True)
def no_scope_from_other_files() -> Iterator[None]:
    """Registries search the default scope first, and a runner sets it for the whole process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DefaultScope, '_instance_dict', OrderedDict())
        yield


@pytest.fixture(scope='module', autouse=True)
def memory_is_given_back() -> Iterator[None]:
    """Else the process keeps as much as its largest model needed: runners ask the C library for it."""
    yield
    gc.collect()
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # glibc's
    if trim is not None:
        trim(0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `gpu` where there is none."""
    if item.get_closest_marker('gpu') and not torch.cuda.is_available():
        pytest.skip('needs a GPU, none is available')

"""Products and convolutions of a run: which there are, and the time that they take alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ATTENTION = '_scaled_dot_product_flash_attention_for_cpu'
PRODUCTS = {
    *('mm', 'addmm', 'bmm', 'baddbmm', '_linear_pointwise'),
    *('convolution', 'convolution_backward', '_convolution_pointwise'),
    *(ATTENTION, f'{ATTENTION}_backward'),
}
"""Names of torch's operators that multiply matrices."""


@dataclass
class Product:
    """One operator with its arguments, and how often it was called with such."""

    call: Callable[[], object]
    count: int = 0


class Products(TorchDispatchMode):
    """While active, keeps the products that torch computes, those of backward passes too."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[object, Product] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        options = dict(kwargs or {})
        if func.overloadpacket.__name__ in PRODUCTS:
            key = func, _form(args), _form(options)
            product = self.found.setdefault(key, Product(lambda: func(*args, **options)))
            product.count += 1
        return func(*args, **options)

    def seconds(self, repeats: int) -> float:
        """The sum over all calls, each at the best time of ``repeats``."""
        return sum(p.count * _best(p.call, repeats) for p in self.found.values())


def _form(x: object) -> object:
    """What the time of an operator depends on: shapes and strides of tensors, other arguments."""
    if isinstance(x, Tensor):
        return tuple(x.shape), x.stride(), x.dtype
    if isinstance(x, dict):
        return tuple((name, _form(value)) for name, value in x.items())
    return tuple(map(_form, x)) if isinstance(x, (list, tuple)) else x


def _best(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return min(times)

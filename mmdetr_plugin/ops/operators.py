"""Functions with a gradient of their own as operators of torch: compilers keep them whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Forward = Callable[[Tensor, Tensor, Tensor, list[int]], Tensor]
Backward = Callable[[Tensor, Tensor, Tensor, Tensor, list[int]], tuple[Tensor, Tensor, Tensor]]


def sampling_operator(name: str, forward: Forward, backward: Backward) -> Callable[..., Tensor]:
    """Make ``mmdetr_plugin::<name>`` of a sampling function and its gradient.

    Args:
        forward: values (..., D), places (B, N, heads, L, P, 2), weights (B, N, heads, L, P) and
            heights and widths of the levels in turn to (B, N, heads * D).
        backward: the gradient of the output and the same to the gradients of the three tensors.
    """
    name, tensors = f'mmdetr_plugin::{name}', 'Tensor values, Tensor places, Tensor weights'
    operator = torch.library.custom_op(
        name, forward, mutates_args=(), schema=f'({tensors}, int[] sizes) -> Tensor'
    )
    gradient = torch.library.custom_op(
        f'{name}_backward',
        backward,
        mutates_args=(),
        schema=f'(Tensor grad, {tensors}, int[] sizes) -> (Tensor, Tensor, Tensor)',
    )

    @operator.register_fake
    def _(values: Tensor, places: Tensor, weights: Tensor, sizes: list[int]) -> Tensor:
        batch, queries, heads = weights.shape[:3]
        return values.new_empty(batch, queries, heads * values.shape[-1])

    @gradient.register_fake
    def _(
        grad: Tensor, values: Tensor, places: Tensor, weights: Tensor, sizes: list[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        return (
            values.new_empty(values.shape),
            places.new_empty(places.shape),
            weights.new_empty(weights.shape),
        )

    def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.sizes = inputs[3]

    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *gradient(grad.contiguous(), *ctx.saved_tensors, ctx.sizes), None

    operator.register_autograd(differentiate, setup_context=save)
    return operator

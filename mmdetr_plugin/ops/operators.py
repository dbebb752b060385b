"""Registers functions with their own gradient as torch operators, which compilers do not split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Forward = Callable[[Tensor, Tensor, Tensor, list[int]], Tensor]
Backward = Callable[[Tensor, Tensor, Tensor, Tensor, list[int]], tuple[Tensor, Tensor, Tensor]]


def sampling_operator(name: str, forward: Forward, backward: Backward) -> Callable[..., Tensor]:
    """Register a sampling function and its gradient as the operator ``mmdetr_plugin::<name>``.

    Args:
        forward: takes values (..., D), locations (B, N, heads, L, P, 2), weights (B, N, heads, L, P)
            and the sizes [H, W, H, W, ...] of the levels; returns (B, N, heads * D).
        backward: takes the gradient of the output and the same arguments; returns the gradients of
            the three tensors.
    """
    name, tensors = f'mmdetr_plugin::{name}', 'Tensor values, Tensor locations, Tensor weights'
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
    def _(values: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]) -> Tensor:
        batch, queries, heads = weights.shape[:3]
        return values.new_empty(batch, queries, heads * values.shape[-1])

    @gradient.register_fake
    def _(
        grad: Tensor, values: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        return (
            values.new_empty(values.shape),
            locations.new_empty(locations.shape),
            weights.new_empty(weights.shape),
        )

    def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.sizes = inputs[3]

    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *gradient(grad.contiguous(), *ctx.saved_tensors, ctx.sizes), None

    operator.register_autograd(differentiate, setup_context=save)
    return operator

"""The query side: object queries between two layers, and the branches they are divided into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .reference import Reference
from .targets import Targets


@dataclass(frozen=True)
class Pairs:
    """Queries and the objects they stand for, known without a matching, ordered by image and query.

    Attributes:
        query: (M,) image * size of the branch + query.
        target: (M,) image * T + object, T being the largest number of objects of an image.
        counts: pairs of each image.
    """

    query: Tensor
    target: Tensor
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Branch:
    """Consecutive queries that are matched and trained separately from the others.

    Attributes:
        size: number of queries.
        prefix: what the names of its losses begin with; '' is the detecting branch: only its
            predictions are the result of the model.
        targets: objects that it is trained with; None = those of the batch.
        pairs: its pairs of queries and objects, where they are known; None = matching finds them.
        groups: number of equal parts that are matched separately, each with every object.
        candidates: (B, size), the number of the only object that each query may be matched with, -1 =
            none; None = any query may be matched with any object.
        trained: (B, size), False for queries without losses; None = all queries have losses.
        normalizer: what its losses are divided by. ``objects``: the objects of the branch, copies
            included, averaged over processes and at least 1. ``detection``: the number for the
            detecting queries times ``copies``. ``process``: its pairs in this process. Objects and
            pairs without losses do not count.
        copies: how often each object stands in ``pairs``.
        weight: of its losses.
    """

    size: int
    prefix: str = ''
    targets: Targets | None = None
    pairs: Pairs | None = None
    groups: int = 1
    candidates: Tensor | None = None
    trained: Tensor | None = None
    normalizer: str = 'objects'
    copies: int = 1
    weight: float = 1.0


@dataclass(frozen=True)
class State:
    """Object queries between two layers.

    Attributes:
        content: (B, N, C).
        pos: (B, N, C) query position, or None.
        ref: reference points or boxes of the N queries, or None.
        spatial: (B, N, C) code of the reference that cross-attention compares with the position
            codes of the memory (Conditional DETR, section 3.3); codes of x and y side by side, (B,
            N, 2 C), for row-column attention; a function that computes the code from the content
            that enters cross-attention; or None.
        points: (B, N, L, 2 | 4) places to sample at, in the unit square of every padded level.
            Given for memory tokens; deformable attention derives those of object queries from
            ``ref``.
        self_mask: bool, broadcastable to (B, heads, N, N), True = attend; None = all to all.
        memory_mask: bool, broadcastable to (B, heads, N, S), True = attend; None = to every token
            that is not padding.
        groups: number of equal groups of queries that do not attend to each other.
        branches: the branches that the queries are divided into, in order; () = one detecting branch.
        carry: (B, N, ...) tensors that an op keeps for a later call.
    """

    content: Tensor
    pos: Tensor | None = None
    ref: Reference | None = None
    spatial: Tensor | Callable[[Tensor], Tensor] | None = None
    points: Tensor | None = None
    self_mask: Tensor | None = None
    memory_mask: Tensor | None = None
    groups: int = 1
    branches: tuple[Branch, ...] = ()
    carry: Mapping[str, Any] = field(default_factory=dict)

    def with_pos(self) -> Tensor:
        """Content plus query position, where there is one."""
        return self.content if self.pos is None else self.content + self.pos

    def keep(self, **values: Any) -> State:
        """A copy that also carries ``values``: (B, N, ...) tensors or references."""
        return replace(self, carry={**self.carry, **values})

    def runs(self) -> tuple[Branch, ...]:
        """The branches, of which there is always one."""
        return self.branches or (Branch(self.content.shape[1]),)

    def map(self, change: Callable[[Tensor], Tensor]) -> State:
        """A copy in which ``change`` was applied to every tensor (B, N, ...) of the queries."""
        changed = {name: _apply(change, getattr(self, name)) for name in PER_QUERY}
        carry = {name: _apply(change, value) for name, value in self.carry.items()}
        return replace(self, **changed, carry=carry)

    def first(self, number: int) -> State:
        """The first ``number`` queries, as one detecting branch."""
        if number == self.content.shape[1] and not self.branches and self.groups == 1:
            return self
        mask = self.self_mask
        mask = None if mask is None else mask[..., :number, :number]
        memory_mask = None if self.memory_mask is None else self.memory_mask[..., :number, :]
        state = self.map(lambda x: x[:, :number])
        return replace(state, self_mask=mask, memory_mask=memory_mask, groups=1, branches=())

    def grouped(self) -> State:
        """The groups as images of their own: (B, groups * N, ...) -> (B * groups, N, ...)."""
        state = self.map(lambda x: x.unflatten(1, (self.groups, -1)).flatten(0, 1))
        return replace(state, groups=1, branches=())

    def attended(self) -> Tensor | None:
        """``self_mask`` combined with the groups; None if every query attends to every other."""
        if self.groups == 1:
            return self.self_mask
        number = torch.arange(self.content.shape[1], device=self.content.device)
        group = number.div(self.content.shape[1] // self.groups, rounding_mode='floor')
        same = (group[:, None] == group)[None, None]
        return same if self.self_mask is None else same & self.self_mask


PER_QUERY = ('content', 'pos', 'ref', 'spatial', 'points')


def _apply(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """``change`` applied to a tensor or to the values of a reference; other values are unchanged."""
    if isinstance(value, Tensor):
        return change(value)
    return value.map(change) if isinstance(value, Reference) else value


def join(before: State, after: State) -> State:
    """The queries of both, in this order; ``self_mask`` and branches are left to the caller.

    Where one of them restricts what it reads of the memory, the other reads all of it.

    Raises:
        ValueError: one of them has an entry that the other lacks, or their references differ in kind.
    """
    joined = {
        name: _join(f'State.{name}', getattr(before, name), getattr(after, name))
        for name in PER_QUERY
    }
    carry = {
        name: _join(f'State.carry[{name!r}]', before.carry.get(name), after.carry.get(name))
        for name in {**before.carry, **after.carry}
    }
    return State(**joined, memory_mask=_join_memory_masks(before, after), carry=carry)


def _join(what: str, one: Any, other: Any) -> Any:
    if one is None and other is None:
        return None
    if type(one) is not type(other) or not isinstance(one, (Tensor, Reference)):
        raise ValueError(
            f'queries that are joined must agree in {what}, got {type(one).__name__} and '
            f'{type(other).__name__}; see DenoisingQueries, or override QuerySource.place'
        )
    return _cat(one, other)


def _join_memory_masks(before: State, after: State) -> Tensor | None:
    given = [mask for mask in (before.memory_mask, after.memory_mask) if mask is not None]
    if not given:
        return None
    parts = []
    for state in (before, after):
        mask = given[0].new_ones(()) if state.memory_mask is None else state.memory_mask
        number = state.content.shape[1]
        shape = torch.broadcast_shapes(*(x.shape[:2] for x in given))
        parts.append(mask.expand(*shape, number, given[0].shape[-1]))
    return torch.cat(parts, 2)


def _cat(one: Any, other: Any) -> Any:
    if isinstance(one, Reference):
        return one.map(lambda values: torch.cat((values, other.values), 1))
    return torch.cat((one, other), 1)

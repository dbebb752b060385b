"""The two values that travel through every variant, and nothing else does.

``Memory`` is the image side (tokens of all feature levels), ``State`` the query side. Both are
immutable: a step returns a changed copy made with :func:`dataclasses.replace`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from .ops.coordinates import stretch

Shapes = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Memory:
    """Image tokens, batch first, all levels joined.

    Attributes:
        tokens: (B, S, C), level after level, each in row-major order.
        pos: (B, S, C) position code of every token (level embedding included).
        mask: (B, S) bool, True = padding.
        shapes: ``(H, W)`` of every level, python integers (no device sync).
        valid_ratios: (B, L, 2), share of a level's (width, height) that is not padding.
        image_wh: (B, 2), width and height of the images without padding, pixels.
        padded: False if it is known on the host that no token is padding.
        axis_pos: per level the 1-D codes ``((B, W, C), (B, H, C))`` of columns and rows, if the
            position encoding makes them (row-column attention reads them).
    """

    tokens: Tensor
    pos: Tensor
    mask: Tensor
    shapes: Shapes
    valid_ratios: Tensor
    image_wh: Tensor
    padded: bool = True
    axis_pos: tuple[tuple[Tensor, Tensor], ...] | None = None

    @property
    def key_mask(self) -> Tensor | None:
        """(B, 1, 1, S) bool, True = attend; None where there is no padding to exclude.

        Made once, for all layers; attention broadcasts it.
        """
        if torch.compiler.is_compiling():  # takes no lock, and makes one of equal masks by itself
            return ~self.mask[:, None, None, :] if self.padded else None
        return self._key_mask

    @cached_property
    def _key_mask(self) -> Tensor | None:
        return ~self.mask[:, None, None, :] if self.padded else None

    def starts(self) -> tuple[int, ...]:
        """Index of the first token of every level, and the total as the last entry."""
        out = [0]
        for h, w in self.shapes:
            out.append(out[-1] + h * w)
        return tuple(out)

    def level(self, index: int) -> Memory:
        """The same memory restricted to one level (negative indices count from the last)."""
        index %= len(self.shapes)
        start, stop = self.starts()[index : index + 2]
        return replace(
            self,
            tokens=self.tokens[:, start:stop],
            pos=self.pos[:, start:stop],
            mask=self.mask[:, start:stop],
            shapes=(self.shapes[index],),
            valid_ratios=self.valid_ratios[:, index : index + 1],
            axis_pos=None if self.axis_pos is None else (self.axis_pos[index],),
        )

    def maps(self) -> list[Tensor]:
        """Tokens as one (B, C, H, W) map per level."""
        sizes = [h * w for h, w in self.shapes]
        return [
            part.transpose(1, 2).unflatten(2, shape)
            for part, shape in zip(self.tokens.split(sizes, 1), self.shapes, strict=True)
        ]

    def masks(self) -> list[Tensor]:
        """Padding mask as one (B, H, W) bool map per level."""
        sizes = [h * w for h, w in self.shapes]
        return [
            part.unflatten(1, shape)
            for part, shape in zip(self.mask.split(sizes, 1), self.shapes, strict=True)
        ]

    def places(self) -> Tensor:
        """(B, S, 2): centre (x, y) of every token, in the unit square of the unpadded image."""
        points = []
        for i, (h, w) in enumerate(self.shapes):
            extent = stretch(self.valid_ratios[:, i], w, h)
            ys = torch.arange(h, dtype=extent.dtype, device=extent.device) + 0.5
            xs = torch.arange(w, dtype=extent.dtype, device=extent.device) + 0.5
            grid = torch.stack((xs.expand(h, w), ys[:, None].expand(h, w)), -1)
            points.append(grid.flatten(0, 1)[None] / extent[:, None])
        return torch.cat(points, 1)

    def centres(self) -> Tensor:
        """(B, S, L, 2): :meth:`places` in the unit square of every padded level."""
        return self.places()[:, :, None] * self.valid_ratios[:, None]


@dataclass(frozen=True)
class State:
    """Object queries between two layers.

    Attributes:
        content: (B, N, C).
        pos: (B, N, C) query position, or None.
        ref: (B, N, 2 | 4) reference point or box (cx, cy, w, h) in logit space, or None.
        spatial: (B, N, C) code of the reference that cross-attention compares with the position
            codes of the memory (Conditional DETR, section 3.3); codes of x and y side by side, (B,
            N, 2 C), for row-column attention; a function of the content where that is read as it
            enters cross-attention; or None.
        points: (B, N, L, 2 | 4) places to sample at, in the unit square of every padded level.
            Given for memory tokens; deformable attention derives those of object queries from
            ``ref``.
        self_mask: bool, broadcastable to (B, heads, N, N), True = attend; None = all to all.
        groups: number of equal query groups that are matched separately.
        carry: what an attention op keeps from one call to a later one.
    """

    content: Tensor
    pos: Tensor | None = None
    ref: Tensor | None = None
    spatial: Tensor | Callable[[Tensor], Tensor] | None = None
    points: Tensor | None = None
    self_mask: Tensor | None = None
    groups: int = 1
    carry: Mapping[str, Tensor] = field(default_factory=dict)

    def with_pos(self) -> Tensor:
        """Content plus query position, where there is one."""
        return self.content if self.pos is None else self.content + self.pos

    def keep(self, **tensors: Tensor) -> State:
        """A copy that also carries ``tensors``."""
        return replace(self, carry={**self.carry, **tensors})

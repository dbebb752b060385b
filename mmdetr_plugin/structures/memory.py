"""The image side: tokens of all feature levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from ..ops.coordinates import scale_coordinates

Size = tuple[int, int]
Shapes = tuple[Size, ...]


def map_size(x: Tensor) -> Size:
    """(height, width) of maps or images (..., H, W): Python integers, or symbols in an export."""
    return x.shape[-2], x.shape[-1]


def join_maps(maps: Sequence[Tensor]) -> Tensor:
    """Maps (B, C, h, w) as tokens (B, S, C), map after map, each in row-major order."""
    for x in maps:
        if x.requires_grad and not torch.compiler.is_compiling():
            # The gradient will be a part of that of the tokens. Batch norm would copy it into another
            # order first, which takes longer than its own work.
            last = x.is_contiguous(memory_format=torch.channels_last)
            order = torch.channels_last if last else torch.contiguous_format
            x.register_hook(partial(torch.Tensor.contiguous, memory_format=order))
    return torch.cat([x.flatten(2).mT for x in maps], 1)


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
        patches: (B, P, 3, h, w), pictures that came with the images and show what to look for, or None;
            only sources of queries read them.
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
    patches: Tensor | None = None

    @property
    def key_mask(self) -> Tensor | None:
        """(B, 1, 1, S) bool, True = attend; None where there is no padding to exclude.

        It is computed once for all layers; attention broadcasts it.
        """
        if (
            torch.compiler.is_compiling()
        ):  # a cached property takes a lock; the compiler shares equal masks
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
        """Tokens as one (B, C, H, W) map per level, in channels-last order."""
        sizes = [h * w for h, w in self.shapes]
        # The strides that result are those of channels-last maps for one image too: with others,
        # joining maps and convolutions reorder them first.
        return [
            part.unflatten(1, shape).permute(0, 3, 1, 2)
            for part, shape in zip(self.tokens.split(sizes, 1), self.shapes, strict=True)
        ]

    def with_maps(self, maps: Sequence[Tensor]) -> Memory:
        """The same memory with the tokens of one (B, C, H, W) map per level.

        Raises:
            ValueError: the maps do not have the sizes of the levels.
        """
        shapes = tuple(map_size(m) for m in maps)
        if shapes != self.shapes:
            raise ValueError(
                f'maps must have the sizes of the feature levels, {self.shapes}, got {shapes}; '
                'give one map per level, fine to coarse'
            )
        return replace(self, tokens=join_maps(maps))

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
            extent = scale_coordinates(self.valid_ratios[:, i], w, h)
            ys = torch.arange(h, dtype=extent.dtype, device=extent.device) + 0.5
            xs = torch.arange(w, dtype=extent.dtype, device=extent.device) + 0.5
            grid = torch.stack((xs.expand(h, w), ys[:, None].expand(h, w)), -1)
            points.append(grid.flatten(0, 1)[None] / extent[:, None])
        return torch.cat(points, 1)

    def centres(self) -> Tensor:
        """(B, S, L, 2): :meth:`places` in the unit square of every padded level."""
        return self.places()[:, :, None] * self.valid_ratios[:, None]

"""Joins feature maps into tokens with padding masks and position codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..ops.exporting import exporting
from ..positions.maps import PositionEncoding
from ..structures import Memory, Size, join_maps, map_size

Sizes = Sequence[Size] | Tensor
"""(height, width) of each image without padding, as numbers or as a tensor (B, 2).

Numbers tell the host whether there is padding at all; a tensor can be an input of an exported graph."""


def embed_maps(
    maps: Sequence[Tensor],
    position: PositionEncoding,
    sizes: Sizes | None,
    canvas: Size,
    cells: int = 0,
    read: bool = True,
) -> Memory:
    """Join the levels into a memory.

    Args:
        maps: (B, C, h, w) per level.
        sizes: unpadded (height, width) of every image, or a tensor (B, 2) of them; None = no image is
            padded.
        canvas: (height, width) of the padded batch.
        cells: pad the coarsest level to a multiple of this number of cells, the next finer one to a
            multiple of twice the number, and so on; 0 = no padding.
        read: whether layers read the tokens; then these must be as wide as the position codes.

    Raises:
        ValueError: they are not.
    """
    if read and maps[0].shape[1] != position.embed_dims:
        raise ValueError(
            f'the neck must give embed_dims={position.embed_dims} channels, got {maps[0].shape[1]}; '
            'change neck.out_channels or model.embed_dims'
        )
    if not is_padded(sizes, canvas):
        sizes = None
    masks = padding_masks(sizes, canvas, maps)
    if cells:
        maps, masks = _pad_levels(maps, masks, cells)
    ratios = [
        torch.stack(((~m[:, 0]).float().mean(1), (~m[:, :, 0]).float().mean(1)), -1) for m in masks
    ]
    tokens, pos = position.join(
        join_maps(maps),
        torch.cat([code.flatten(1, 2) for code in position(masks)], 1),
    )
    return Memory(
        tokens=tokens,
        pos=pos,
        mask=torch.cat([m.flatten(1) for m in masks], 1),
        shapes=tuple(map_size(m) for m in maps),
        valid_ratios=torch.stack(ratios, 1),
        image_wh=image_extents(sizes, canvas, masks[0]),
        padded=cells > 0 or sizes is not None,
        axis_pos=position.axes(masks),
    )


def _pad_levels(
    maps: Sequence[Tensor], masks: Sequence[Tensor], cells: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Maps (B, C, h, w) and masks (B, h, w) below and to the right of which there is padding."""
    padded_maps: list[Tensor] = []
    padded_masks: list[Tensor] = []
    for i, (x, mask) in enumerate(zip(reversed(maps), reversed(masks), strict=True)):
        missing = [-size % (cells << i) for size in x.shape[-2:]]
        sides = (0, missing[1], 0, missing[0])
        padded_maps.insert(0, F.pad(x, sides))
        padded_masks.insert(0, F.pad(mask, sides, value=True))
    return padded_maps, padded_masks


def is_padded(sizes: Sizes | None, canvas: Size) -> bool:
    """Whether an image is smaller than the batch; True for sizes that are a tensor, which are unknown
    here. If none is, nothing is copied from the host, so a CUDA graph can capture the forward pass."""
    if sizes is None or isinstance(sizes, Tensor):
        return sizes is not None
    return any(size != canvas for size in sizes)


def image_extents(sizes: Sizes | None, canvas: Size, mask: Tensor) -> Tensor:
    """(B, 2), width and height of the images without padding; ``mask`` (B, ...) is of any level."""
    if isinstance(sizes, Tensor):
        return sizes.flip(-1).float()
    if sizes is not None:
        extents = torch.tensor([(w, h) for h, w in sizes], dtype=torch.float32)
        return extents.to(mask.device, non_blocking=True)
    sides = [torch.full(mask.shape[:1], side, device=mask.device) for side in reversed(canvas)]
    return torch.stack(sides, -1).float()


def padding_masks(sizes: Sizes | None, canvas: Size, maps: Sequence[Tensor]) -> list[Tensor]:
    """(B, h, w) bool per level, True = padding: the nearest-neighbour resize of the image mask.

    Args:
        sizes: unpadded (height, width) of every image; None = no image is padded.
        canvas: (height, width) of the padded batch.
        maps: (B, C, h, w) per level.
    """
    device = maps[0].device
    if sizes is None:
        shapes = [(m.shape[0], *m.shape[-2:]) for m in maps]
        return [torch.zeros(shape, dtype=torch.bool, device=device) for shape in shapes]
    limits = torch.as_tensor(sizes).to(device, non_blocking=True)
    masks = []
    if exporting():
        for m in maps:
            row, column = (
                nearest_cells(*lengths, device) >= limits[:, i : i + 1]
                for i, lengths in enumerate(zip(canvas, m.shape[-2:], strict=True))
            )
            masks.append(row[:, :, None] | column[:, None])
        return masks
    rows = torch.arange(canvas[0], device=device) >= limits[:, :1]
    columns = torch.arange(canvas[1], device=device) >= limits[:, 1:]
    for h, w in (m.shape[-2:] for m in maps):
        row = F.interpolate(rows[:, None].float(), size=h)[:, 0] > 0
        column = F.interpolate(columns[:, None].float(), size=w)[:, 0] > 0
        masks.append(row[:, :, None] | column[:, None])
    return masks


def nearest_cells(length: int, number: int, device: torch.device) -> Tensor:
    """(number,): the places among ``length`` that a nearest-neighbour resize reads, in whole numbers,
    as other runtimes round the quotient of the lengths differently."""
    return (torch.arange(number, device=device) * length).div(number, rounding_mode='floor')

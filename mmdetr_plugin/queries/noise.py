"""Which object every denoising query copies, and how random numbers change the copy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..ops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from ..structures import Pairs, Targets


@dataclass(frozen=True)
class NoiseLayout:
    """Denoising queries of a batch: group after group, in each the positives, then the negatives.

    Each part of a group (positives, negatives) has as many places as the fullest image has objects; in
    images with fewer objects, the last places of every part are padding.

    Attributes:
        targets: the objects.
        groups: number of groups.
        negatives: whether a group has negatives (contrastive denoising).
    """

    targets: Targets
    groups: int
    negatives: bool

    @property
    def slots(self) -> int:
        """T, places in a part of a group."""
        return max(self.targets.counts, default=0)

    @property
    def size(self) -> int:
        """N, queries of an image."""
        return self.groups * (1 + self.negatives) * self.slots

    @cached_property
    def number(self) -> Tensor:
        """(N,): 0, 1, 2, ..."""
        return torch.arange(self.size, device=self.targets.padded_boxes.device)

    @property
    def group(self) -> Tensor:
        """(N,): group of each query."""
        per_group = max((1 + self.negatives) * self.slots, 1)
        return self.number.div(per_group, rounding_mode='floor')

    @property
    def is_negative(self) -> Tensor:
        """(N,) bool."""
        if not self.negatives:
            return torch.zeros_like(self.number, dtype=torch.bool)
        return self.number % max(2 * self.slots, 1) >= self.slots

    def copies(self, padded: Tensor) -> Tensor:
        """For each query, the row of its object: (B, T, ...) -> (B, N, ...)."""
        return padded.index_select(1, self.number % max(self.slots, 1))

    def pairs(self) -> Pairs:
        """The positives with their objects."""
        starts = np.arange(self.groups)[:, None] * (1 + self.negatives) * self.slots
        query, target = [], []
        for image, count in enumerate(self.targets.counts):
            objects = np.broadcast_to(np.arange(count), (self.groups, count))
            query.append((image * self.size + starts + objects).ravel())
            target.append((image * self.slots + objects).ravel())
        packed = torch.from_numpy(np.stack((np.concatenate(query), np.concatenate(target))))
        on_device = packed.to(self.number.device, non_blocking=True)
        return Pairs(on_device[0], on_device[1], tuple(len(part) for part in query))


@dataclass(frozen=True)
class NoiseDraws:
    """The random numbers, all uniform, of a batch with N denoising queries per image.

    Attributes:
        label: (B, N) in [0, 1); the label is replaced where it is below the noise rate.
        new_label: (B, N), the class that replaces it.
        sign: (B, N, 4), 0 or 1.
        box: (B, N, 4) in [0, 1).
    """

    label: Tensor
    new_label: Tensor
    sign: Tensor
    box: Tensor

    @classmethod
    def random(cls, batch: int, number: int, num_classes: int, device: torch.device) -> NoiseDraws:
        shape = (batch, number)
        return cls(
            torch.rand(shape, device=device),
            torch.randint(num_classes, shape, device=device),
            torch.randint(2, (*shape, 4), device=device).float(),
            torch.rand((*shape, 4), device=device),
        )


def noised_centres(boxes: Tensor, draws: NoiseDraws, scale: float) -> Tensor:
    """Boxes (B, N, 4) whose centres move by up to ``scale`` of half their size, and whose sides
    change by up to ``scale`` of themselves (DN-DETR, section 4.2)."""
    width_height = boxes[..., 2:]
    reach = torch.cat((width_height / 2, width_height), -1) * scale
    return (boxes + (2 * draws.box - 1) * reach).clamp(0, 1)


def noised_corners(boxes: Tensor, draws: NoiseDraws, scale: float, is_negative: Tensor) -> Tensor:
    """Boxes (B, N, 4) whose corners move by up to ``scale`` of half their size, those of negatives
    by more than that and up to twice as much (DINO, section 3.3).

    The corners of a negative may cross: its width or height is then below 0.
    """
    reach = boxes[..., 2:].repeat(1, 1, 2) / 2 * scale
    distance = draws.box + is_negative[:, None]
    corners = cxcywh_to_xyxy(boxes) + (2 * draws.sign - 1) * distance * reach
    return xyxy_to_cxcywh(corners.clamp(0, 1))

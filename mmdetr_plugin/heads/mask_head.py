"""The attention-map mask head (DETR, section 4.4 and figure 8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..attention.base import check_heads
from ..registry import MODELS
from ..structures import Memory

SelectMasks = Callable[[Tensor], Tensor]
"""Masks (M, h, w) of the flat query indices (M,), image * N + query."""


@dataclass(frozen=True)
class MaskInputs:
    """What the masks of all queries of a batch are made from.

    Attributes:
        attention: (B * N, heads, H, W) attention maps.
        projected: (B, C, H, W), the neck's map.
        levels: the backbone's maps, coarse to fine, as wide as the convolutions they are added to.
        num_queries: N.
    """

    attention: Tensor
    projected: Tensor
    levels: tuple[Tensor, ...]
    num_queries: int


@torch.no_grad()
def map_channels(backbone: nn.Module) -> list[int]:
    """Channels of a backbone's maps, found out on a small image."""
    training = backbone.training
    backbone.eval()
    maps = backbone(torch.zeros(1, 3, 64, 64))
    backbone.train(training)
    return [x.shape[1] for x in maps]


@MODELS.register_module()
class AttentionMaskHead(nn.Module):
    """A mask per query: where it attends to, refined by a small feature pyramid.

    The attention of a query to the memory, softmaxed over heads and places together, stands beside
    the neck's map; 3x3 convolutions halve the channels and twice the resolution until that of the
    finest backbone map. Queries do not see each other, so any subset of them can be computed.

    Args:
        in_channels: channels of the backbone's maps finer than the attended one, fine to coarse;
            the detector fills it in.
        num_heads: attention maps per query.
        chunk: queries computed at a time. With a gradient, the activations of one chunk alone are
            kept and the others computed again, so it bounds memory in training too.
        level: index of the memory's level that is attended to.
        threshold: probability above which a pixel belongs to an instance mask.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        embed_dims: int = 256,
        num_heads: int = 8,
        chunk: int = 25,
        level: int = -1,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        widths = [embed_dims // 2**i for i in range(1, len(in_channels) + 2)]
        if chunk < 1 or widths[-1] < 1:
            raise ValueError(
                'mask_head.chunk must be 1 or more and embed_dims at least '
                f'{2 ** len(widths)}, got {chunk} and {embed_dims}; change them'
            )
        self.num_heads, self.chunk, self.level = num_heads, chunk, level
        self.threshold = threshold
        self.query = nn.Linear(embed_dims, embed_dims)
        self.key = nn.Linear(embed_dims, embed_dims)
        widths = [embed_dims + num_heads, embed_dims + num_heads, *widths]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        # 8 groups in the published widths; fewer only where narrow layers do not divide by 8.
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, c), c) for c in widths[1:])
        coarse_to_fine = zip(reversed(in_channels), widths[2:-1], strict=True)
        self.adapters = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in coarse_to_fine)
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)
        self._init()

    def _init(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self, hidden: Tensor, embedded: Memory, memory: Memory, levels: Sequence[Tensor]
    ) -> Tensor:
        """(B, N, h, w) logits at the resolution of the finest map; arguments as in ``prepare``."""
        index = torch.arange(hidden.shape[0] * hidden.shape[1], device=hidden.device)
        masks = self.prepare(hidden, embedded, memory, levels)(index)
        return masks.unflatten(0, hidden.shape[:2])

    def prepare(
        self, hidden: Tensor, embedded: Memory, memory: Memory, levels: Sequence[Tensor]
    ) -> SelectMasks:
        """A function that computes the masks of the queries it is asked for.

        Args:
            hidden: (B, N, C), the content that the last prediction was read from.
            embedded, memory: the neck's maps, and what the encoder made of them.
            levels: the backbone's maps finer than the attended one, fine to coarse.

        Raises:
            ValueError: there are more or fewer maps than ``in_channels``.
        """
        if len(levels) != len(self.adapters):
            raise ValueError(
                f'the mask head was built for {len(self.adapters)} maps of the backbone, got '
                f'{len(levels)}; make backbone.out_indices and mask_head.in_channels agree'
            )
        maps = reversed(levels)
        inputs = MaskInputs(
            attention=self.attention(hidden, memory.level(self.level)).flatten(0, 1),
            projected=embedded.level(self.level).maps()[0],
            levels=tuple(conv(x) for conv, x in zip(self.adapters, maps, strict=True)),
            num_queries=hidden.shape[1],
        )
        return lambda index: self._select(inputs, index)

    def attention(self, hidden: Tensor, memory: Memory) -> Tensor:
        """(B, N, heads, H, W): attention to one level; heads and places of a query sum to 1."""
        q = self.query(hidden).unflatten(-1, (self.num_heads, -1))
        k = self.key(memory.tokens).unflatten(-1, (self.num_heads, -1))
        scores = torch.einsum('bnhc,bshc->bnhs', q * q.shape[-1] ** -0.5, k).float()
        if memory.padded:
            scores = scores.masked_fill(memory.mask[:, None, None], -math.inf)
        weights = scores.flatten(2).softmax(-1)
        return weights.view_as(scores).unflatten(-1, memory.shapes[0])

    def _select(self, inputs: MaskInputs, index: Tensor) -> Tensor:
        parts = index.split(self.chunk)
        if torch.is_grad_enabled() and len(parts) > 1:
            masks = [checkpoint(self._masks, inputs, i, use_reentrant=False) for i in parts]
        else:
            masks = [self._masks(inputs, i) for i in parts]
        return torch.cat(masks)

    def _masks(self, inputs: MaskInputs, index: Tensor) -> Tensor:
        image = index // inputs.num_queries
        attention = inputs.attention.index_select(0, index)
        projected = inputs.projected.index_select(0, image)
        x = torch.cat((projected, attention.to(projected.dtype)), 1)
        fpn = (None, None, *inputs.levels)
        for conv, norm, level in zip(self.convs, self.norms, fpn, strict=True):
            if level is not None:
                x = level.index_select(0, image) + F.interpolate(x, size=level.shape[-2:])
            x = norm(conv(x)).relu()
        return self.out(x)[:, 0]

    def instances(
        self, masks: Tensor, canvas: Sequence[int], crop: Sequence[int], size: Sequence[int]
    ) -> Tensor:
        """Instance masks (M, H, W), bool, of mask logits (M, h, w).

        Args:
            canvas: (height, width) that the logits cover.
            crop: (height, width) of the image on it.
            size: (height, width) to resize to.
        """
        out = []
        for part in masks[:, None].split(self.chunk):
            wide = F.interpolate(part.float(), size=tuple(canvas), mode='bilinear')
            inside = wide[..., : crop[0], : crop[1]].sigmoid() > self.threshold
            out.append(F.interpolate(inside.to(torch.uint8), size=tuple(size))[:, 0].bool())
        return torch.cat(out)

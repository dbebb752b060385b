"""The attention-map mask head (DETR, section 4.4 and figure 8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..attention.base import check_heads, mask_scores
from ..ops.coordinates import scale_coordinates
from ..ops.exporting import exporting
from ..ops.gaussian import log_gaussian
from ..ops.linear import Linear
from ..ops.precision import full_precision, same_autocast
from ..registry import MODELS
from ..structures import Masks, Memory, Prediction
from .mask_base import Features, MaskHead


@dataclass(frozen=True)
class AttentionMasks(Masks):
    """Masks that the mask head computes on demand.

    Attributes:
        head: the function that computes them, ``head(masks, index)``.
        attention: (B * N, heads, H, W) attention maps.
        projected: (B, C, H, W), the neck's map.
        levels: the backbone's maps, coarse to fine, as wide as the convolutions they are added to.
        num_queries: N.
    """

    head: Callable[[AttentionMasks, Tensor], Tensor]
    attention: Tensor
    projected: Tensor
    levels: tuple[Tensor, ...]
    num_queries: int

    def select(self, index: Tensor) -> Tensor:
        return self.head(self, index)

    def dense(self) -> Tensor:
        index = torch.arange(self.attention.shape[0], device=self.attention.device)
        return self.select(index).unflatten(0, (-1, self.num_queries))


def box_prior(boxes: Tensor, memory: Memory) -> Tensor:
    """Logarithms (B, N, S) of a Gaussian for each box: its standard deviations are half the box's
    sides, and half a cell at least.

    Args:
        boxes: (B, N, 4), cxcywh in 0..1 of the unpadded image.
        memory: of one level with S cells.
    """
    height, width = memory.shapes[0]
    extent = scale_coordinates(memory.valid_ratios, width, height)  # (B, 1, 2), in cells
    centres, sides = (full_precision(boxes) * torch.cat((extent, extent), -1)).split(2, -1)
    return log_gaussian(centres - 0.5, 4 / sides.clamp(min=1), (height, width))


@MODELS.register_module()
class AttentionMaskHead(MaskHead):
    """A mask per query: its attention map, refined by a small feature pyramid.

    The attention of a query to the memory, with one softmax over heads and places, is concatenated
    with the neck's map. Then 3x3 convolutions halve the channels and double the resolution, up to that
    of the finest backbone map. Queries do not interact, so any subset of the masks can be computed.

    Args:
        in_channels: channels of the backbone's maps finer than the attended one, fine to coarse;
            the detector fills it in.
        num_heads: attention maps per query.
        chunk: number of queries computed at a time. In training, the activations of the chunks are
            not kept but computed again in the backward pass, so it bounds memory there too.
        level: index of the memory's level that is attended to.
        threshold: probability above which a pixel belongs to an instance mask.
        near_boxes: multiply the attention by a Gaussian as large as the predicted box, as SMCA (section
            3.2) does in its decoder, and give it to the convolutions as multiples of its mean. For
            decoders whose queries do not hold the place of their object in their content, but in
            reference boxes (Deformable DETR, DINO): in a short training they find no masks without it.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        embed_dims: int = 256,
        num_heads: int = 8,
        chunk: int = 25,
        level: int = -1,
        threshold: float = 0.5,
        near_boxes: bool = False,
    ) -> None:
        super().__init__(threshold, chunk)
        check_heads(embed_dims, num_heads)
        widths = [embed_dims // 2**i for i in range(1, len(in_channels) + 2)]
        if widths[-1] < 1:
            raise ValueError(
                f'embed_dims must be at least {2 ** len(widths)} for a mask head that reads '
                f'{len(in_channels)} maps, got {embed_dims}; change it'
            )
        self.num_heads, self.level, self.near_boxes = num_heads, level, near_boxes
        self.query = Linear(embed_dims, embed_dims)
        self.key = Linear(embed_dims, embed_dims)
        widths = [embed_dims + num_heads, embed_dims + num_heads, *widths]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        # 8 groups in the published widths; fewer only where narrow layers do not divide by 8.
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, c), c) for c in widths[1:])
        coarse_to_fine = zip(reversed(in_channels), widths[2:-1], strict=True)
        self.adapters = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in coarse_to_fine)
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)
        for linear in (self.query, self.key):
            nn.init.xavier_uniform_(linear.weight)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
        for name, parameter in self.named_parameters():
            if name.endswith('bias'):
                nn.init.zeros_(parameter)

    def forward(self, predictions: Sequence[Prediction], features: Features) -> AttentionMasks:
        """Masks at the resolution of the finest map, from the content of the last prediction.

        Raises:
            ValueError: there are more or fewer maps than ``in_channels``, or the prediction comes
                without the content that it was read from.
        """
        levels, hidden = features.levels, predictions[-1].hidden
        if hidden is None:
            raise ValueError(
                'the mask head reads Prediction.hidden, the content of the queries, got None; let the '
                'head pass it on'
            )
        if len(levels) != len(self.adapters):
            raise ValueError(
                f'the mask head was built for {len(self.adapters)} maps of the backbone, got '
                f'{len(levels)}; make backbone.out_indices and mask_head.in_channels agree'
            )
        adapted = zip(self.adapters, reversed(levels), strict=True)
        memory = features.memory.level(self.level)
        prior = box_prior(predictions[-1].boxes.detach(), memory) if self.near_boxes else None
        attention = self.attention(hidden, memory, prior).flatten(0, 1)
        if self.near_boxes:
            attention = attention * (self.num_heads * memory.tokens.shape[1])
        return AttentionMasks(
            head=same_autocast(self._select, hidden.device),
            attention=attention,
            projected=features.embedded.level(self.level).maps()[0],
            levels=tuple(conv(x) for conv, x in adapted),
            num_queries=hidden.shape[1],
        )

    def attention(self, hidden: Tensor, memory: Memory, prior: Tensor | None = None) -> Tensor:
        """(B, N, heads, H, W): attention to one level; heads and places of a query sum to 1.

        Args:
            prior: (B, N, S), added to the scores.
        """
        q = self.query(hidden).unflatten(-1, (self.num_heads, -1))
        k = self.key(memory.tokens).unflatten(-1, (self.num_heads, -1))
        scores = torch.einsum('bnhc,bshc->bnhs', q * q.shape[-1] ** -0.5, k).float()
        if prior is not None:
            scores = scores + prior[:, :, None]
        weights = mask_scores(scores, memory.key_mask).flatten(2).softmax(-1)
        return weights.view_as(scores).unflatten(-1, memory.shapes[0])

    def _select(self, inputs: AttentionMasks, index: Tensor) -> Tensor:
        # How many parts there are must not depend on the batch in an exported graph.
        parts = (index,) if exporting() else index.split(self.chunk)
        if torch.is_grad_enabled() and len(parts) > 1:
            masks = [checkpoint(self._masks, inputs, i, use_reentrant=False) for i in parts]
        else:
            masks = [self._masks(inputs, i) for i in parts]
        return torch.cat(masks)

    def _masks(self, inputs: AttentionMasks, index: Tensor) -> Tensor:
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

"""Semantic-aligned cross-attention (SAM-DETR, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops.boxes import cxcywh_to_xyxy
from ..ops.coordinates import scale_coordinates, sine_point_code
from ..ops.gaussian import log_gaussian
from ..ops.linear import Linear
from ..ops.mlp import MLP
from ..ops.regions import align_regions
from ..registry import MODELS
from ..structures import Memory, State
from .base import AttentionOp, attend, check_heads, clamp_to_dtype, mask_scores, split_heads
from .records import Attention, DenseAttention, attention_weights


def reference_boxes(state: State) -> Tensor:
    """(B, N, 4), cxcywh in 0..1, never in half precision."""
    if state.ref is None or state.ref.dims != 4:
        got = 0 if state.ref is None else state.ref.dims
        raise ValueError(
            'semantic-aligned attention needs references with 4 coordinates, got '
            f"{got}; use queries that make boxes, for example dict(type='LearnedBoxes')"
        )
    return state.ref.unit()


class SalientPoints(nn.Module):
    """The most informative point of a region, one for each head (SAM-DETR, section 3).

    Args:
        num_values: numbers predicted per head; the first two are the place.
        region_size: height and width of a region, cells.
    """

    def __init__(self, embed_dims: int, num_heads: int, num_values: int, region_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        squeezed = embed_dims // 4
        self.conv = nn.Conv2d(embed_dims, squeezed, 1)
        self.mlp = nn.Sequential(
            Linear(squeezed * region_size**2, embed_dims),
            nn.ReLU(),
            Linear(embed_dims, 2 * embed_dims),
            nn.ReLU(),
            Linear(2 * embed_dims, 2 * embed_dims),
            nn.ReLU(),
            Linear(2 * embed_dims, num_heads * num_values),
        )
        # Only the last bias is 0: with weights of 0 a steepness would never get a gradient.
        *_, bias = self.mlp.parameters()
        nn.init.zeros_(bias)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Places (R, heads, 2), (x, y) in -1..1 of the region, and the other numbers, unbounded
        (R, heads, num_values - 2), of regions (R, C, s, s)."""
        values = self.mlp(self.conv(regions).relu().flatten(1)).to(regions.dtype)
        places, others = values.tensor_split((2 * self.num_heads,), 1)
        heads = (self.num_heads, -1)
        return places.unflatten(1, heads).tanh(), others.unflatten(1, heads)


@MODELS.register_module()
class SemanticAlignedAttention(AttentionOp):
    """Attention whose queries are features of the memory, read inside the reference box.

    Every head takes the features of one salient point, gated by the content of the query, and
    compares them in full width with keys that all heads share. No gradient flows through the codes of
    the points or through the borders of the regions.

    Args:
        gaussian: add the logarithm of a Gaussian around each head's point to its scores; the points
            come with a steepness along x and y (SAM-DETR with SMCA, section 3).
        levels: feature level that each decoder layer reads; later layers read the last entry's.
        region_size: height and width of the regions, cells.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        dropout: float = 0.1,
        gaussian: bool = False,
        levels: Sequence[int] = (0,),
        region_size: int = 7,
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        if not levels:
            raise ValueError('levels must name at least one feature level, got none; take (0,)')
        self.num_heads = num_heads
        self.dropout = dropout
        self.gaussian = gaussian
        self.levels = tuple(levels)
        self.region_size = region_size
        self.points = SalientPoints(embed_dims, num_heads, 4 if gaussian else 2, region_size)
        self.content_gate = Linear(embed_dims, num_heads * embed_dims)
        self.place_gate = Linear(embed_dims, num_heads * embed_dims)
        self.query_content = Linear(embed_dims, embed_dims)
        self.query_place = MLP(embed_dims, embed_dims, embed_dims, 2)
        self.key_content = Linear(embed_dims, embed_dims)
        self.key_place = MLP(embed_dims, embed_dims, embed_dims, 2)
        self.value = Linear(embed_dims, embed_dims)
        self.out_proj = Linear(embed_dims, embed_dims)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        q, k, v, mask, _ = self._inputs(state, self._level(memory, layer))
        return self.out_proj(attend(q, k, v, mask, self.dropout if self.training else 0.0))

    def observe(self, state: State, memory: Memory, layer: int) -> Attention:
        memory = self._level(memory, layer)
        q, k, v, mask, places = self._inputs(state, memory)
        return DenseAttention(v, memory.shapes, attention_weights(q, k, mask), points=places)

    def _inputs(
        self, state: State, memory: Memory
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
        """Queries, keys and values by heads, what is added to the scores or a mask, and the salient
        points (B, N, heads, 2) in 0..1."""
        boxes = reference_boxes(state)
        regions = self.pool(memory, boxes)  # (B * N, C, s, s)
        offsets, steepness = self.points(regions)  # (B * N, heads, 2)
        features = F.grid_sample(
            regions, offsets[:, None], padding_mode='zeros', align_corners=False
        )  # (B * N, C, 1, heads)
        features, offsets, steepness = (
            x.unflatten(0, boxes.shape[:2])
            for x in (features.squeeze(2).transpose(1, 2), offsets, steepness)
        )
        places = boxes[:, :, None, :2] + 0.5 * boxes[:, :, None, 2:] * offsets  # (B, N, heads, 2)

        q = self.queries(state.content, features, places)  # (B, heads, N, C)
        k = self.key_content(memory.tokens) + self.key_place(memory.pos)
        k = k[:, None].expand(-1, self.num_heads, -1, -1)
        v = split_heads(self.value(memory.tokens), self.num_heads)
        mask = memory.key_mask
        if self.gaussian:
            mask = self.modulation(places, steepness, memory, q.dtype)
        return q, k, v, mask, places

    def _level(self, memory: Memory, layer: int) -> Memory:
        level = self.levels[min(layer, len(self.levels) - 1)]
        if not 0 <= level < len(memory.shapes):
            raise ValueError(
                f'levels must be below the number of feature levels ({len(memory.shapes)}), got '
                f'{self.levels}; make neck outputs and levels agree'
            )
        return memory.level(level)

    def pool(self, memory: Memory, boxes: Tensor) -> Tensor:
        """Regions (B * N, C, s, s) of ``boxes`` (B, N, 4), cxcywh in 0..1 of the unpadded image.

        A box may reach beyond the image; the memory's values there are then read too.
        """
        dtype = boxes.dtype  # never below single precision: the op knows no bf16
        feature_map = memory.maps()[0].to(dtype).contiguous()
        height, width = memory.shapes[0]
        corners = cxcywh_to_xyxy(boxes.detach()).nan_to_num()  # on which the op would abort
        corners = scale_coordinates(corners, width, height, width, height)
        corners = corners * memory.valid_ratios[:, 0].repeat(1, 2)[:, None]
        image = torch.arange(boxes.shape[0], dtype=dtype, device=boxes.device)
        image = image.repeat_interleave(boxes.shape[1])
        rois = torch.cat((image[:, None], corners.flatten(0, 1)), 1).to(dtype)
        return align_regions(feature_map, rois, self.region_size)

    def queries(self, content: Tensor, features: Tensor, places: Tensor) -> Tensor:
        """Content and position of the queries, gated and added: (B, heads, N, C).

        Args:
            content: (B, N, C).
            features: (B, N, heads, C), the memory at the points.
            places: (B, N, heads, 2), the points in 0..1.
        """
        heads = (self.num_heads, -1)
        codes = sine_point_code(places.detach(), content.shape[-1] // 2)
        features = features * self.content_gate(content).sigmoid().unflatten(-1, heads)
        codes = codes * self.place_gate(content).sigmoid().unflatten(-1, heads)
        return (self.query_content(features) + self.query_place(codes)).transpose(1, 2)

    def modulation(
        self, places: Tensor, steepness: Tensor, memory: Memory, dtype: torch.dtype
    ) -> Tensor:
        """(B, heads, N, S), to be added to the scores; -inf for padding."""
        height, width = memory.shapes[0]
        cells = scale_coordinates(places, width, height) * memory.valid_ratios[:, :1, None]
        bias = log_gaussian(cells.transpose(1, 2) - 0.5, steepness.transpose(1, 2), (height, width))
        return mask_scores(clamp_to_dtype(bias, dtype), memory.key_mask)

"""Multi-scale deformable attention (Deformable DETR, section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..ops.deformable import Shapes, check_backend, deformable_attention, level_tables
from ..ops.deformable_cells import sample_cells
from ..ops.linear import Linear
from ..registry import MODELS
from ..structures import Memory, State
from .base import AttentionOp, check_heads
from .records import Attention, SampledAttention

SAMPLING = ('bilinear', 'discrete')


class DeformableProjections(nn.Module):
    """The projections of deformable attention and the sampling between them.

    Args:
        num_points: points per head and level, one number or one for each level.
        value_dims: width of the values; None = ``embed_dims``.
        projected: whether values and output are projected; False: the heads read slices of the memory
            as it is (D-FINE).
        sampling: ``bilinear``, or ``discrete``: the nearest cell, whose place has no gradient, so the
            offsets are not trained (RT-DETRv2).
        backend: see :class:`DeformableAttention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_levels: int,
        num_points: int | Sequence[int],
        value_dims: int | None = None,
        projected: bool = True,
        sampling: str = 'bilinear',
        backend: str | None = None,
    ) -> None:
        super().__init__()
        if backend is not None:
            check_backend(backend)
        if sampling not in SAMPLING:
            raise ValueError(f'sampling must be one of {SAMPLING}, got {sampling!r}; change it')
        self.backend = backend
        self.sampling = sampling
        value_dims = embed_dims if value_dims is None else value_dims
        check_heads(embed_dims, num_heads)
        check_heads(value_dims, num_heads)
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points if isinstance(num_points, int) else tuple(num_points)
        self.points = (num_points,) * num_levels if isinstance(num_points, int) else num_points
        if len(self.points) != num_levels:
            raise ValueError(
                f'num_points must be one number, or one for each of the num_levels={num_levels}, got '
                f'{list(self.points)}; change one of them'
            )
        samples = num_heads * sum(self.points)
        self.sampling_offsets = Linear(embed_dims, 2 * samples)
        self.attention_weights = Linear(embed_dims, samples)
        self.value_proj = Linear(embed_dims, value_dims) if projected else nn.Identity()
        self.output_proj = Linear(value_dims, embed_dims) if projected else nn.Identity()
        if sampling == 'discrete':
            self.sampling_offsets.requires_grad_(False)
        self.init_weights_()

    def init_weights_(self) -> None:
        """Head m looks in direction 2 pi m / heads, point k at distance k (appendix A.2)."""
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack((angles.cos(), angles.sin()), -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        distance = torch.cat([torch.arange(1, number + 1) for number in self.points])
        offsets = directions[:, None] * distance[:, None]
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        for proj in (self.value_proj, self.output_proj):
            if isinstance(proj, nn.Linear):
                nn.init.xavier_uniform_(proj.weight)
                nn.init.zeros_(proj.bias)

    def sample(
        self, query: Tensor, points: Tensor, value: Tensor, mask: Tensor | None, shapes: Shapes
    ) -> Tensor:
        """Attend from ``query`` to ``value`` around ``points``.

        Args:
            query: (B, N, C), position included.
            points: (B, N, L, 2 | 4), reference points or boxes in the unit square of every level.
            value: (B, S, C).
            mask: (B, S) bool, True = padding, or None.
            shapes: ``(H, W)`` of every level.

        Returns:
            (B, N, C) after the output projection.
        """
        if len(shapes) != self.num_levels or points.shape[2] != self.num_levels:
            raise ValueError(
                f'deformable attention was built for num_levels={self.num_levels}, got '
                f'{len(shapes)} feature levels; make neck outputs and num_levels agree'
            )
        value = self._values(value, mask)
        groups = self._places(query, points, shapes)
        if len(groups) == 1:
            return self.output_proj(self._read(value, shapes, *groups[0]))
        # The backends take levels with equally many points, so each level has a call of its own.
        values = value.split([h * w for h, w in shapes], 1)
        parts = [self._read(v, (s,), *g) for v, s, g in zip(values, shapes, groups, strict=True)]
        return self.output_proj(torch.stack(parts).sum(0))

    def _values(self, value: Tensor, mask: Tensor | None) -> Tensor:
        """(B, S, heads, D) of (B, S, C), 0 where ``mask`` (B, S) is True."""
        value = self.value_proj(value)
        if mask is not None:
            value = value.masked_fill(mask[..., None], 0.0)
        return value.unflatten(-1, (self.num_heads, -1))

    def _places(self, query: Tensor, points: Tensor, shapes: Shapes) -> list[tuple[Tensor, Tensor]]:
        """Locations (B, N, heads, L, P, 2) in the unit square of every level, and weights (B, N, heads,
        L, P): of all levels if these have equally many points, else of one level after the other."""
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1))
        weights = weights.float().softmax(-1) if weights.dtype.itemsize < 4 else weights.softmax(-1)
        # Offsets and places stay in single precision under autocast: bf16 steps are whole pixels.
        offsets = self.sampling_offsets(query).to(points.dtype)
        offsets = offsets.unflatten(-1, (self.num_heads, -1, 2))
        if len(set(self.points)) == 1:
            return [self._locations(points, offsets, weights, shapes)]
        parts = zip(
            points.split(1, 2),
            offsets.split(self.points, 3),
            weights.split(self.points, 3),
            ((shape,) for shape in shapes),
            strict=True,
        )
        return [self._locations(*part) for part in parts]

    def _read(self, value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        """(B, N, heads * D): weighted sum of samples."""
        if self.sampling == 'discrete':
            return sample_cells(value, shapes, locations, weights).to(value.dtype)
        return deformable_attention(value, shapes, locations, weights, self.backend)

    @staticmethod
    def _locations(
        points: Tensor, offsets: Tensor, weights: Tensor, shapes: Shapes
    ) -> tuple[Tensor, Tensor]:
        """Places (B, N, heads, L, P, 2) and weights (B, N, heads, L, P) of offsets
        (B, N, heads, L * P, 2) and weights (B, N, heads, L * P)."""
        layout = (len(shapes), -1)
        places = sampling_places(points, offsets.unflatten(3, layout), shapes)
        return places, weights.unflatten(3, layout)


def sampling_places(points: Tensor, offsets: Tensor, shapes: Shapes) -> Tensor:
    """(B, N, heads, L, P, 2): where samples lie, in the unit square of every level.

    Offsets are cells around a point, fractions of half the size around a box. What is added to them is
    repeated for all points of a level first: it is small, and the one pass over the offsets then reads
    whole rows.

    Args:
        points: (B, N, L, 2 | 4), reference points or boxes.
        offsets: (B, N, heads, L, P, 2).
    """
    number = offsets.shape[-2]
    spread = points[:, :, None, :, None].expand(-1, -1, -1, -1, number, -1)
    centers = spread[..., :2].contiguous()
    if points.shape[-1] == 2:
        sizes = level_tables(shapes, points.device)[0].flip(-1).to(offsets.dtype)  # (W, H)
        return torch.addcdiv(centers, offsets, sizes[:, None].repeat(1, number, 1))
    return torch.addcmul(centers, offsets, (spread[..., 2:] * (0.5 / number)).contiguous())


@MODELS.register_module()
class DeformableAttention(DeformableProjections, AttentionOp):
    """Attention to ``num_points`` sampled places per head and level of the memory.

    Args:
        num_points, projected, sampling: see :class:`DeformableProjections`.
        backend: one of :data:`mmdetr_plugin.ops.deformable.BACKENDS`; None = the fastest.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int | Sequence[int] = 4,
        projected: bool = True,
        sampling: str = 'bilinear',
        backend: str | None = None,
    ) -> None:
        super().__init__(
            embed_dims, num_heads, num_levels, num_points, None, projected, sampling, backend
        )

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        mask = memory.mask if memory.padded else None
        points = self._points(state, memory)
        return self.sample(state.with_pos(), points, memory.tokens, mask, memory.shapes)

    def observe(self, state: State, memory: Memory, layer: int) -> Attention:
        value = self._values(memory.tokens, memory.mask if memory.padded else None)
        groups = self._places(state.with_pos(), self._points(state, memory), memory.shapes)
        return SampledAttention(
            value.transpose(1, 2),
            memory.shapes,
            tuple(level for places, _ in groups for level in places.unbind(3)),
            tuple(level for _, weights in groups for level in weights.unbind(3)),
            self.sampling == 'discrete',
        )

    @staticmethod
    def _points(state: State, memory: Memory) -> Tensor:
        """(B, N, L, 2 | 4): where the state samples, in the unit square of every padded level."""
        if state.points is not None:
            return state.points
        if state.ref is None:
            raise ValueError(
                'DeformableAttention needs references to sample around, got State.ref=None; choose '
                "queries that make them, for example queries.reference=dict(type='LinearReference')"
            )
        ratios = memory.valid_ratios.repeat(1, 1, state.ref.dims // 2)
        return state.ref.unit()[:, :, None] * ratios[:, None]


@MODELS.register_module()
class MultiScaleDeformableAttention(DeformableProjections):
    """Drop-in for mmcv's module of the same name: constructor, ``forward`` and ``state_dict``.

    ``im2col_step``, ``norm_cfg`` and ``init_cfg`` are accepted and have no effect: the step follows
    from the batch, and mmcv's module does not use the others either.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        im2col_step: int = 64,
        dropout: float = 0.1,
        batch_first: bool = False,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
        value_proj_ratio: float = 1.0,
    ) -> None:
        value_dims = int(embed_dims * value_proj_ratio)
        super().__init__(embed_dims, num_heads, num_levels, num_points, value_dims)
        self.dropout = nn.Dropout(dropout)
        self.batch_first = batch_first

    is_init = True  # MMEngine leaves it out: the constructor has initialised it

    def init_weights(self) -> None:
        """What mmdet calls on mmcv's module after it has overwritten its weights."""
        self.init_weights_()

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        level_start_index: Tensor | None = None,
        **kwargs: object,
    ) -> Tensor:
        """(N, B, C), or (B, N, C) with ``batch_first``: the output plus ``identity``.

        Args:
            query: (N, B, C) | (B, N, C).
            value: (S, B, C) | (B, S, C); ``query`` if None.
            key_padding_mask: (B, S) bool, True = padding.
            reference_points: (B, N, L, 2 | 4) in the unit square of every padded level.
            spatial_shapes: (L, 2) as (H, W).

        Raises:
            ValueError: reference points or shapes are missing.
        """
        if reference_points is None or spatial_shapes is None:
            raise ValueError(
                'MultiScaleDeformableAttention needs reference_points and spatial_shapes, got None; '
                'pass both'
            )
        identity = query if identity is None else identity
        value = query if value is None else value
        query = query if query_pos is None else query + query_pos
        if not self.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        shapes = tuple((int(h), int(w)) for h, w in spatial_shapes.tolist())
        out = self.sample(query, reference_points, value, key_padding_mask, shapes)
        return self.dropout(out if self.batch_first else out.transpose(0, 1)) + identity

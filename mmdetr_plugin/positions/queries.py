"""Position of the queries, computed from their reference before each decoder layer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from ..attention.base import check_heads
from ..ops.coordinates import sine_point_code
from ..ops.mlp import MLP
from ..registry import MODELS
from ..structures import Memory, State

PROJECTIONS = ('identity', 'scalar', 'diagonal', 'block', 'full')
FORMS = ('CSQ', 'CSQ-C', 'CSQ-T', 'CSQ-P', 'CSQ-I')


def reference_places(state: State, dims: int) -> Tensor:
    """(B, N, dims): the first coordinates of the reference, in 0..1, never in half precision.

    Raises:
        ValueError: the queries have no reference, or one with fewer coordinates.
    """
    if state.ref is None or state.ref.dims < dims:
        got = 0 if state.ref is None else state.ref.dims
        raise ValueError(
            f'the query position needs references with {dims} coordinates, got {got}; '
            "choose queries that make them, e.g. queries.reference=dict(type='MLPReference') "
            "for points or queries.type='LearnedBoxes' for boxes, or another decoder.query_position"
        )
    return (state.ref.points() if dims == 2 else state.ref).unit()


class CodeProjection(nn.Module):
    """Linear map of a position code, predicted from an embedding (Conditional DETR, eq. 6, fig. 5).

    Args:
        kind: ``identity`` learns nothing; ``scalar`` is one factor, ``diagonal`` one a channel;
            ``block`` is a matrix for each head's channels, ``full`` one for all.
        num_heads: number of blocks.
    """

    def __init__(self, embed_dims: int, kind: str = 'diagonal', num_heads: int = 8) -> None:
        super().__init__()
        if kind not in PROJECTIONS:
            raise ValueError(f'projection must be one of {PROJECTIONS}, got {kind!r}; change it')
        check_heads(embed_dims, num_heads)
        self.blocks = {'block': num_heads, 'full': 1}.get(kind, 0)
        outputs = 1 if kind == 'scalar' else embed_dims
        if self.blocks:
            outputs = embed_dims**2 // self.blocks
        self.mlp = None if kind == 'identity' else MLP(embed_dims, embed_dims, outputs, 2)

    def forward(self, code: Tensor, embedding: Tensor) -> Tensor:
        """Both (B, N, C) -> (B, N, C)."""
        if self.mlp is None:
            return code
        factors = self.mlp(embedding)
        if not self.blocks:
            return factors * code
        parts = code.unflatten(-1, (self.blocks, -1, 1))  # (B, N, blocks, D, 1)
        matrices = factors.unflatten(-1, (self.blocks, parts.shape[-2], -1))
        return (matrices @ parts.to(matrices.dtype)).flatten(-3)


@MODELS.register_module()
class ConditionalPosition(nn.Module):
    """Spatial query p_q = T(f) p_s: the code of the reference point, transformed by the content.

    f is the content that enters the layer. In layer 0 the content knows nothing of the image yet, so T
    is the identity there.

    Args:
        form: what makes the spatial query (Conditional DETR, table 3): ``CSQ`` as above; ``CSQ-P``
            the code p_s alone; ``CSQ-T`` the transformation T alone (of a code of ones); ``CSQ-C``
            the content f; ``CSQ-I`` as CSQ, with T predicted from the output of self-attention.
        projection: form of T, see :class:`CodeProjection`.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        form: str = 'CSQ',
        projection: str = 'diagonal',
        num_heads: int = 8,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f'form must be one of {FORMS}, got {form!r}; change it')
        without = form in ('CSQ-C', 'CSQ-P')
        if (without and projection != 'diagonal') or (form, projection) == ('CSQ-T', 'identity'):
            raise ValueError(
                f"form {form!r} must keep the projection 'diagonal', got {projection!r}; "
                "vary the projection of 'CSQ' or 'CSQ-I'"
            )
        self.embed_dims = embed_dims
        self.form = form
        self.projection = None if without else CodeProjection(embed_dims, projection, num_heads)

    def forward(self, state: State, memory: Memory, layer: int) -> State:
        if self.form == 'CSQ-C':
            return replace(state, spatial=state.content)
        code = sine_point_code(reference_places(state, 2), self.embed_dims // 2)
        if self.form == 'CSQ-T':
            code = torch.ones_like(code)
        if layer == 0 or self.projection is None:
            return replace(state, spatial=code)
        if self.form == 'CSQ-I':  # self-attention has not run yet
            return replace(state, spatial=partial(self.projection, code))
        return replace(state, spatial=self.projection(code, state.content))


class BoxCode(nn.Module):
    """Codes of the reference boxes, and a perceptron that turns them into positions."""

    def __init__(self, embed_dims: int, projection: str, num_heads: int) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        self.position = MLP(2 * embed_dims, embed_dims, embed_dims, 2)
        self.projection = CodeProjection(embed_dims, projection, num_heads)

    def code(self, boxes: Tensor) -> Tensor:
        """(B, N, 4) in 0..1 -> (B, N, 2 C), in the order y, x, w, h."""
        return sine_point_code(boxes, self.embed_dims // 2)


@MODELS.register_module()
class BoxPosition(BoxCode):
    """Query position and spatial query of a reference box (DAB-DETR, sections 4.2 and 4.4).

    Args:
        projection: map of the spatial query from layer 1 on, see :class:`CodeProjection`.
        modulate: multiply the halves of the spatial query by h_ref / h and w_ref / w, where the
            content predicts w_ref and h_ref: attention takes the shape of the box (eq. 6 and 7).
    """

    def __init__(
        self,
        embed_dims: int = 256,
        projection: str = 'diagonal',
        modulate: bool = True,
        num_heads: int = 8,
    ) -> None:
        super().__init__(embed_dims, projection, num_heads)
        self.size = MLP(embed_dims, embed_dims, 2, 2) if modulate else None

    def forward(self, state: State, memory: Memory, layer: int) -> State:
        boxes = reference_places(state, 4)
        code = self.code(boxes)
        spatial = code[..., : self.embed_dims]
        if layer:
            spatial = self.projection(spatial, state.content)
        if self.size is not None:
            ratio = self.size(state.content).sigmoid() / boxes[..., 2:]  # (B, N, 2) of w, h
            spatial = spatial * ratio.flip(-1).repeat_interleave(self.embed_dims // 2, -1)
        return replace(state, pos=self.position(code), spatial=spatial)


@MODELS.register_module()
class DeformableBoxPosition(BoxCode):
    """Query position of a reference box for ops that read the reference themselves.

    DAB-Deformable DETR: boxes are relative to the padded first level; the position is mapped from
    layer 1 on.

    Args:
        projection: form of the map, see :class:`CodeProjection`.
    """

    def __init__(
        self, embed_dims: int = 256, projection: str = 'diagonal', num_heads: int = 8
    ) -> None:
        super().__init__(embed_dims, projection, num_heads)

    def forward(self, state: State, memory: Memory, layer: int) -> State:
        ratios = memory.valid_ratios[:, :1].repeat(1, 1, 2)
        pos = self.position(self.code(reference_places(state, 4) * ratios))
        return replace(state, pos=self.projection(pos, state.content) if layer else pos)


@MODELS.register_module()
class SineQueryPosition(nn.Module):
    """The sine code of the reference's centre, without a gradient (SAM-DETR, section 3)."""

    def __init__(self, embed_dims: int = 256) -> None:
        super().__init__()
        self.embed_dims = embed_dims

    def forward(self, state: State, memory: Memory, layer: int) -> State:
        places = reference_places(state, 2).detach()
        return replace(state, pos=sine_point_code(places, self.embed_dims // 2))


@MODELS.register_module()
class MLPPosition(nn.Module):
    """A perceptron of the four numbers of the reference box (RT-DETR).

    Args:
        hidden_dims: width of the hidden layers; None = twice ``embed_dims``.
        depth: number of linear layers.
        activation: ``ReLU``, or ``SiLU`` (DEIM).
        limit: positions are clamped to at most this distance from 0 (D-FINE); None = no clamp.
        shared: all layers have the position of the first reference (DEIMv2); else each has that of the
            reference that enters it.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        hidden_dims: int | None = None,
        depth: int = 2,
        activation: str = 'ReLU',
        limit: float | None = None,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.mlp = MLP(4, hidden_dims or 2 * embed_dims, embed_dims, depth, activation)
        self.limit, self.shared = limit, shared

    def forward(self, state: State, memory: Memory, layer: int) -> State:
        if self.shared and layer:
            return state
        pos = self.mlp(reference_places(state, 4))
        return replace(state, pos=pos if self.limit is None else pos.clamp(-self.limit, self.limit))

"""Row-column decoupled attention (Anchor DETR, section 3.4)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..ops.exporting import exporting
from ..ops.linear import linear
from ..registry import MODELS
from ..structures import Memory, State
from .base import JoinedProjections, join_heads, mask_scores, split_heads
from .records import Attention, AxisAttention


def weigh_rows_and_columns(row: Tensor, column: Tensor, value: Tensor) -> Tensor:
    """Sum of ``row[x] column[y] value[y, x]`` over all cells, without a weight for every cell.

    The longer axis is summed first, so that only the shorter one is ever multiplied by N.

    Args:
        row: (B, heads, N, W), weights of the columns x.
        column: (B, heads, N, H), weights of the rows y.
        value: (B, heads, H, W, D).

    Returns:
        (B, heads, N, D).
    """
    # An exported graph has one order for all sizes.
    if not exporting() and value.shape[2] > value.shape[3]:
        row, column, value = column, row, value.transpose(2, 3)
    height, width = value.shape[2], value.shape[4]
    lines = row @ value.transpose(2, 3).flatten(3)  # (B, heads, N, H * D)
    lines = lines.unflatten(-1, (height, width))
    return (column.unsqueeze(-2) @ lines).squeeze(-2)


def axis_codes(memory: Memory) -> tuple[Tensor, Tensor]:
    """Codes (B, W, C) of columns and (B, H, C) of rows: 1-D codes, or else means of 2-D codes."""
    if memory.axis_pos is not None:
        return memory.axis_pos[0]
    pos = memory.pos.unflatten(1, memory.shapes[0])
    return pos.mean(1), pos.mean(2)


class RowColumnAttention(JoinedProjections):
    """Attention along x and attention along y; the weight of a cell is their product.

    The key of a column is the mean of its features plus the code of its x; the key of a row is the
    mean of its features plus the code of its y. As published, these means include the padding.
    """

    inputs = 5  # queries along x, along y, keys along x, along y, values

    def queries(self, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
        """Queries along x and along y, both (B, N, C)."""
        raise TypeError(f'{type(self).__name__} must define queries(state, memory)')

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        row, column, value = self._inputs(*self.queries(state, memory), memory)
        row, column = (F.dropout(x, self.dropout, self.training) for x in (row, column))
        return self.out_proj(join_heads(weigh_rows_and_columns(row, column, value)))

    def observe(self, state: State, memory: Memory, layer: int) -> Attention:
        row, column, value = self._inputs(*self.queries(state, memory), memory)
        return AxisAttention(value.flatten(2, 3), memory.shapes, row, column)

    def _inputs(
        self, x_query: Tensor, y_query: Tensor, memory: Memory
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (B, heads, N, W) of columns, (B, heads, N, H) of rows; values (B, heads, H, W, D)."""
        if len(memory.shapes) != 1:
            raise ValueError(
                f'row-column attention needs one feature level, got {len(memory.shapes)}; '
                'let the neck give one map'
            )
        shape = memory.shapes[0]
        weights, biases = self.in_proj_weight.chunk(5), self.in_proj_bias.chunk(5)
        width = 2 * memory.tokens.shape[-1]
        projected = linear(memory.tokens, self.in_proj_weight[width:], self.in_proj_bias[width:])
        kx, ky, v = projected.chunk(3, -1)  # (B, S, C)
        x_code, y_code = axis_codes(memory)
        kx = kx.unflatten(1, shape).mean(1) + linear(x_code, weights[2])  # (B, W, C)
        ky = ky.unflatten(1, shape).mean(2) + linear(y_code, weights[3])  # (B, H, C)
        qx = linear(x_query, weights[0], biases[0])
        qy = linear(y_query, weights[1], biases[1])
        qx, qy, kx, ky, v = (split_heads(x, self.num_heads) for x in (qx, qy, kx, ky, v))
        inside = ~memory.masks()[0] if memory.padded else None  # (B, H, W)
        row = self._weights(qx, kx, None if inside is None else inside[:, 0])
        column = self._weights(qy, ky, None if inside is None else inside[:, :, 0])
        return row, column, v.unflatten(2, shape)

    def _weights(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """Softmax (B, heads, N, K) over the K places of an axis; ``mask`` (B, K), True = attend."""
        scores = (q * q.shape[-1] ** -0.5) @ k.mT
        scores = mask_scores(scores, None if mask is None else mask[:, None, None])
        return scores.softmax(-1)


@MODELS.register_module()
class RowColumnSelfAttention(RowColumnAttention):
    """Attention of every cell of the memory along its rows and columns (encoder)."""

    def queries(self, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
        height, width = memory.shapes[0]
        x_code, y_code = axis_codes(memory)
        x_code = x_code[:, None].expand(-1, height, -1, -1).flatten(1, 2)
        y_code = y_code[:, :, None].expand(-1, -1, width, -1).flatten(1, 2)
        return state.content + x_code, state.content + y_code


@MODELS.register_module()
class RowColumnCrossAttention(RowColumnAttention):
    """Attention of the queries along the rows and columns of the memory.

    ``State.spatial`` holds their codes of x and y side by side. If it is None, the query position
    serves as both.
    """

    def queries(self, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
        content = state.content
        if state.spatial is None:
            return state.with_pos(), state.with_pos()
        if callable(state.spatial) or state.spatial.shape[-1] != 2 * content.shape[-1]:
            raise ValueError(
                'row-column attention needs codes of x and y side by side in State.spatial, got '
                "another spatial query; use dict(type='AnchorQueries') and no query_position"
            )
        x_code, y_code = state.spatial.chunk(2, -1)
        return content + x_code, content + y_code

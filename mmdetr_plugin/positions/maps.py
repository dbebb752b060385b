"""Position codes of the feature maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..ops.coordinates import sine_code, sine_point_code
from ..ops.mlp import MLP
from ..ops.precision import in_weight_precision
from ..registry import MODELS

PLACES = ('attention', 'input', 'none')


class PositionEncoding(nn.Module):
    """A position code for every cell of every level, optionally with a learned embedding of the level.

    Args:
        level_embed: whether each level has an embedding; or the number of levels, where it is not
            ``num_levels``.
        at: ``attention`` adds the codes to queries and keys of every layer; ``input`` once, to the
            tokens; ``none`` nowhere (DETR, table 3).
        num_levels: number of feature levels; the detector passes its own.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        level_embed: bool | int = False,
        at: str = 'attention',
        num_levels: int = 1,
    ) -> None:
        super().__init__()
        if level_embed is True:
            level_embed = num_levels
        if at not in PLACES:
            raise ValueError(f'position.at must be one of {PLACES}, got {at!r}; change it')
        if at == 'none' and level_embed:
            raise ValueError(
                f"position.level_embed must be 0 with at='none', got {level_embed}; set it to 0 or "
                'add the codes somewhere'
            )
        self.embed_dims = embed_dims
        self.at = at
        self.level_embed = (
            nn.Parameter(torch.randn(level_embed, embed_dims)) if level_embed else None
        )

    def grid(self, mask: Tensor) -> Tensor:
        """(B, H, W) bool, True = padding -> (B, H, W, C)."""
        raise TypeError(f'{type(self).__name__} must define grid(mask)')

    def points(self, points: Tensor) -> Tensor:
        """(..., 2) as (x, y) in 0..1 of the unpadded image -> (..., C), coded as the cells are."""
        raise TypeError(f'{type(self).__name__} must define points(points)')

    def point_axes(self, points: Tensor) -> Tensor | None:
        """(..., 2) -> (..., 2 C): 1-D codes of x and of y side by side, or None as :meth:`axes`."""
        return None

    def axes(self, masks: list[Tensor]) -> tuple[tuple[Tensor, Tensor], ...] | None:
        """1-D codes ``((B, W, C), (B, H, C))`` per level, for ops that read them."""
        return None

    def forward(self, masks: list[Tensor]) -> list[Tensor]:
        """One (B, H, W, C) code per level."""
        codes = [self.grid(mask) for mask in masks]
        if self.level_embed is None:
            return codes
        if len(codes) != len(self.level_embed):
            raise ValueError(
                f'level_embed must be the number of feature levels ({len(codes)}), '
                f'got {len(self.level_embed)}; change position.level_embed or the neck'
            )
        return [code + embed for code, embed in zip(codes, self.level_embed, strict=True)]

    def join(self, tokens: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens that enter the transformer and codes that its attention adds, all (B, S, C)."""
        if self.at == 'attention':
            return tokens, codes
        return tokens + codes if self.at == 'input' else tokens, torch.zeros_like(codes)


class SineCodes(PositionEncoding):
    """Base of fixed codes of sines and cosines, half of the channels for each axis."""

    def __init__(
        self,
        embed_dims: int,
        level_embed: bool | int,
        temperature: float,
        at: str,
        num_levels: int,
    ) -> None:
        super().__init__(embed_dims, level_embed, at, num_levels)
        if embed_dims % 4:
            raise ValueError(
                f'embed_dims must be a multiple of 4 for sine codes, got {embed_dims}; change it'
            )
        self.temperature = temperature


@MODELS.register_module()
class SinePosition(SineCodes):
    """Fixed sine codes, half of the channels for y, half for x (DETR, appendix A.4).

    Args:
        temperature: of the frequencies; 20 in DAB-DETR.
        offset: added to the 1-based index of a cell: 0 in DETR, -0.5 (cell centres) in Deformable.
        eps: added to the extent that normalises the index.
        shifted_extent: compute the extent from the shifted index and subtract the shift afterwards.
            Because of rounding, rows and columns of pure padding then get other codes; attention
            masks these, but RoIAlign reads them (SAM-DETR).
        level_embed, at, num_levels: see :class:`PositionEncoding`.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        level_embed: bool | int = False,
        temperature: float = 10000.0,
        offset: float = 0.0,
        eps: float = 1e-6,
        shifted_extent: bool = False,
        at: str = 'attention',
        num_levels: int = 1,
    ) -> None:
        super().__init__(embed_dims, level_embed, temperature, at, num_levels)
        self.offset = offset
        self.eps = eps
        self.shifted_extent = shifted_extent

    def grid(self, mask: Tensor) -> Tensor:
        valid = ~mask
        return torch.cat([self._axis(valid, 1), self._axis(valid, 2)], -1)

    def _axis(self, valid: Tensor, dim: int) -> Tensor:
        index = valid.cumsum(dim, dtype=torch.float32)
        shifted = index + self.offset
        if self.shifted_extent:
            extent = shifted.narrow(dim, -1, 1) + self.eps - self.offset
        else:
            extent = index.narrow(dim, -1, 1) + self.eps
        place = shifted / extent
        return sine_code(place, self.embed_dims // 2, self.temperature, 2 * math.pi)

    def points(self, points: Tensor) -> Tensor:
        return sine_point_code(points, self.embed_dims // 2, self.temperature)


@MODELS.register_module()
class LearnedPosition(PositionEncoding):
    """A learned code per column and one per row, side by side (DETR, table 3).

    Padding has codes too: the first cell is always column 0 of row 0.

    Args:
        max_size: number of columns and of rows; no level may have more.
        level_embed, at, num_levels: see :class:`PositionEncoding`.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        level_embed: bool | int = False,
        max_size: int = 50,
        at: str = 'attention',
        num_levels: int = 1,
    ) -> None:
        super().__init__(embed_dims, level_embed, at, num_levels)
        if at == 'none':
            raise ValueError(
                "LearnedPosition must be added somewhere, got at='none'; use SinePosition there"
            )
        self.columns = nn.Embedding(max_size, embed_dims // 2)
        self.rows = nn.Embedding(max_size, embed_dims - embed_dims // 2)
        for codes in (self.columns, self.rows):
            nn.init.uniform_(codes.weight)

    def grid(self, mask: Tensor) -> Tensor:
        batch, height, width = mask.shape
        limit = self.rows.num_embeddings
        if max(height, width) > limit:
            raise ValueError(
                f'LearnedPosition has codes for maps of {limit} x {limit} cells, got {height} x '
                f'{width}; raise position.max_size'
            )
        columns = self.columns.weight[:width].expand(height, -1, -1)
        rows = self.rows.weight[:height, None].expand(-1, width, -1)
        return torch.cat((columns, rows), -1).expand(batch, -1, -1, -1)


@MODELS.register_module()
class AnchorPosition(PositionEncoding):
    """Sine codes through a perceptron that cells and points share (Anchor DETR, 3.2).

    A second perceptron makes 1-D codes of rows, columns and coordinates, for row-column attention.

    Args:
        axis_codes: make 1-D codes too.
        unused_axis_codes: create their perceptron although no 1-D codes are made, as the authors'
            model with plain attention does; its gradient is zero.
        temperature: of the frequencies.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        level_embed: bool | int = False,
        axis_codes: bool = True,
        unused_axis_codes: bool = False,
        temperature: float = 10000.0,
        num_levels: int = 1,
    ) -> None:
        super().__init__(embed_dims, level_embed, num_levels=num_levels)
        self.temperature = temperature
        self.plane = MLP(embed_dims, embed_dims, embed_dims, 2)
        self.axis_codes = axis_codes
        has_line = axis_codes or unused_axis_codes
        self.line = MLP(embed_dims, embed_dims, embed_dims, 2) if has_line else None

    def points(self, points: Tensor) -> Tensor:
        code = sine_point_code(points, self.embed_dims // 2, self.temperature)
        return in_weight_precision(self.plane, code)

    def point_axes(self, points: Tensor) -> Tensor | None:
        if self.line is None or not self.axis_codes:
            return None
        return torch.cat([self._coordinate(self.line, points[..., i]) for i in (0, 1)], -1)

    def grid(self, mask: Tensor) -> Tensor:
        x, y = self._places(mask)
        batch, height, width = mask.shape
        x, y = x[:, None].expand(batch, height, width), y[..., None].expand(batch, height, width)
        code = self.points(torch.stack((x, y), -1))
        if self.line is not None and not self.axis_codes:
            # Data-parallel training needs a gradient for every parameter.
            code = code + 0 * sum(parameter.sum() for parameter in self.line.parameters())
        return code

    def axes(self, masks: list[Tensor]) -> tuple[tuple[Tensor, Tensor], ...] | None:
        if self.line is None or not self.axis_codes:
            return None
        places = [self._places(mask) for mask in masks]
        return tuple(
            (self._coordinate(self.line, x), self._coordinate(self.line, y)) for x, y in places
        )

    def _coordinate(self, line: MLP, x: Tensor) -> Tensor:
        """(...) in 0..1 -> (..., C)."""
        return in_weight_precision(line, sine_code(x, self.embed_dims, self.temperature))

    @staticmethod
    def _places(mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, W) and (B, H): x of columns and y of rows, in 0..1 of the unpadded image."""
        index = [(~line).cumsum(1, dtype=torch.float32) for line in (mask[:, 0], mask[:, :, 0])]
        x, y = ((i - 0.5) / i[:, -1:] for i in index)
        return x, y

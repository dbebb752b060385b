"""A vision transformer whose blocks may attend within windows (LW-DETR, section 3; RF-DETR; DEIMv2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention.base import attend, check_heads, split_heads
from ..ops.linear import Linear, linear
from ..ops.rotary import Codes, rotary_codes, rotate
from ..registry import MODELS
from ..transformer.ffn import FeedForward


class ViTAttention(nn.Module):
    """Self-attention with joined projections.

    Args:
        key_bias: False: queries and values have a bias, keys have none, as in CAE.
    """

    def __init__(self, embed_dims: int, num_heads: int, key_bias: bool) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.key_bias = key_bias
        self.qkv = Linear(embed_dims, 3 * embed_dims, bias=key_bias)
        if not key_bias:
            self.q_bias = nn.Parameter(torch.zeros(embed_dims))
            self.v_bias = nn.Parameter(torch.zeros(embed_dims))
        self.proj = Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, codes: Codes | None = None) -> Tensor:
        """(B, N, C) -> (B, N, C); ``codes`` turn queries and keys."""
        bias: Tensor | None = self.qkv.bias
        if not self.key_bias:
            bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        q, k, v = linear(x, self.qkv.weight, bias).chunk(3, -1)
        q, k, v = (split_heads(part, self.num_heads) for part in (q, k, v))
        if codes is not None:
            q, k = rotate(q, codes), rotate(k, codes)
        return self.proj(attend(q, k, v))


class ViTBlock(nn.Module):
    """Attention and a perceptron, each after a norm; learned factors may scale their channels.

    Args:
        windows: the attention joins this number of windows of an image; 1 = it stays within each.
        layer_scale: initial value of the factors; None = there are none.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        windows: int,
        key_bias: bool,
        layer_scale: float | None,
    ) -> None:
        super().__init__()
        self.windows = windows
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = ViTAttention(embed_dims, num_heads, key_bias)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = FeedForward(embed_dims, 4 * embed_dims, 'GELU', dropout=0.0)
        self.gamma_1: nn.Parameter | float = 1.0
        self.gamma_2: nn.Parameter | float = 1.0
        if layer_scale is not None:
            self.gamma_1 = nn.Parameter(torch.full((embed_dims,), layer_scale))
            self.gamma_2 = nn.Parameter(torch.full((embed_dims,), layer_scale))

    def forward(self, x: Tensor, codes: Codes | None = None) -> Tensor:
        """(B * all windows, N, C), the windows of an image after each other -> the same shape."""
        joined = self.norm1(x).unflatten(0, (-1, self.windows)).flatten(1, 2)
        x = x + self.gamma_1 * self.attn(joined, codes).view_as(x)
        return x + self.gamma_2 * self.mlp(self.norm2(x))


@MODELS.register_module()
class WindowedViT(BaseModule):
    """Maps of one stride after several blocks of a plain ViT.

    Tokens stay ordered by windows from the first block to the last (LW-DETR, section 3.2), so that
    windowed attention moves no data.

    Args:
        embed_dims: channels.
        depth: number of blocks. Those after the last of ``out_indices`` are neither run nor trained;
            they are kept so that published files fit.
        num_heads: attention heads.
        patch_size: pixels of a token's side, which is the stride of the maps.
        windows: windows per side of the image; 1 = a plain ViT.
        global_blocks: numbers of the blocks whose attention joins all windows.
        out_indices: numbers of the blocks after which a map is returned.
        grid_size: side of the square of learned position codes, which is resized to the image; None =
            every block turns queries and keys by rotary codes (DINOv3), which needs ``windows=1``.
        class_token: whether every window has a copy of a learned token (DINOv2).
        norm: whether a norm ends every map (DINOv2).
        key_bias: see :class:`ViTAttention`.
        layer_scale: see :class:`ViTBlock`.
        antialias: resize the position codes with a filter that is as wide as they shrink.
        rotary_base: see :func:`~mmdetr_plugin.ops.rotary.rotary_periods`.
    """

    def __init__(
        self,
        embed_dims: int,
        depth: int,
        num_heads: int,
        patch_size: int,
        windows: int,
        global_blocks: Sequence[int],
        out_indices: Sequence[int],
        grid_size: int | None,
        class_token: bool = False,
        norm: bool = False,
        key_bias: bool = True,
        layer_scale: float | None = 1.0,
        antialias: bool = False,
        rotary_base: float = 100.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        wrong = [i for i in (*global_blocks, *out_indices) if not 0 <= i < depth]
        if wrong or not out_indices:
            raise ValueError(
                f'backbone.global_blocks and out_indices must be numbers of blocks, 0 to {depth - 1}, '
                f'and there must be a map to return, got {tuple(global_blocks)} and '
                f'{tuple(out_indices)}; change them or backbone.depth'
            )
        head_dims = embed_dims // num_heads
        if grid_size is None and (windows != 1 or head_dims % 4):
            raise ValueError(
                'rotary codes need backbone.windows=1 and a multiple of 4 channels in each head, got '
                f'windows={windows} and {head_dims} channels; set grid_size to learn position codes, '
                'or change them'
            )
        self.patch_size, self.windows, self.grid_size = patch_size, windows, grid_size
        self.head_dims, self.rotary_base = head_dims, rotary_base
        self.out_indices, self.antialias = tuple(out_indices), antialias
        self.out_channels = [embed_dims] * len(self.out_indices)
        self.patch_embed = nn.Conv2d(3, embed_dims, patch_size, patch_size)
        self.pos_embed = None
        if grid_size is not None:
            self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid_size**2, embed_dims))
        self.class_token = nn.Parameter(torch.zeros(1, 1, embed_dims)) if class_token else None
        self.blocks = nn.ModuleList(
            ViTBlock(
                embed_dims,
                num_heads,
                windows**2 if i in global_blocks else 1,
                key_bias,
                layer_scale,
            )
            for i in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6) if norm else nn.Identity()
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks[max(self.out_indices) + 1 :].requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> (B, C, H / patch_size, W / patch_size) for each of ``out_indices``.

        Raises:
            ValueError: the image does not divide into windows of whole patches.
        """
        side = self.patch_size * self.windows
        if images.shape[-2] % side or images.shape[-1] % side:
            raise ValueError(
                f'height and width of the images must be multiples of {side} pixels ({self.windows} '
                f'windows of whole patches per side), got {tuple(images.shape[-2:])}; resize them, or '
                f'set data_preprocessor.pad_size_divisor={side}'
            )
        cells = self.patch_embed(images)
        height, width = cells.shape[-2:]
        token: Tensor | None = self.class_token
        codes: Codes | None = None
        if self.pos_embed is None:
            still = int(token is not None)
            size = (height, width, self.head_dims)
            codes = rotary_codes(*size, self.rotary_base, still, images.device)
        else:
            cells = cells + self._position_codes(height, width)
            token = None if token is None else token + self.pos_embed[:, :1]
        x = self._to_windows(cells)
        if token is not None:
            x = torch.cat((token.expand(x.shape[0], -1, -1), x), 1)
        maps = []
        for i, block in enumerate(self.blocks[: max(self.out_indices) + 1]):
            x = block(x, codes)
            if i in self.out_indices:
                tokens = self.norm(x if self.class_token is None else x[:, 1:])
                maps.append(self._to_map(tokens, height, width))
        return tuple(maps)

    def _position_codes(self, height: int, width: int) -> Tensor:
        """(1, C, height, width)."""
        assert self.pos_embed is not None, 'learned, not rotary'
        codes = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.grid_size, -1))
        if codes.shape[-2:] == (height, width):
            return codes
        size = (height, width)
        return F.interpolate(codes, size=size, mode='bicubic', antialias=self.antialias)

    def _to_windows(self, cells: Tensor) -> Tensor:
        """(B, C, H, W) -> (B * windows, cells of a window, C)."""
        number = self.windows
        parts = cells.unflatten(3, (number, -1)).unflatten(2, (number, -1))
        return parts.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)

    def _to_map(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """The inverse of :meth:`_to_windows`."""
        number = self.windows
        parts = tokens.unflatten(1, (height // number, -1)).unflatten(0, (-1, number, number))
        return parts.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

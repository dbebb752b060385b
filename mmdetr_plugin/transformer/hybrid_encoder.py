"""The encoder of the real-time models: attention on the coarsest level, convolutions between levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn import functional as F

from ..build import build_slot
from ..registry import MODELS
from ..structures import Memory
from .convolutions import ACTIVATION, NORM

FUSION = {'type': 'CSPRepBlock'}
LATERAL = {'type': 'ConvModule', 'kernel_size': 1, 'norm_cfg': NORM, 'act_cfg': ACTIVATION}
DOWNSAMPLE = {**LATERAL, 'kernel_size': 3, 'padding': 1}
JOINS = ('concat', 'sum')


@MODELS.register_module()
class HybridEncoder(nn.Module):
    """Transformer layers on the coarsest level, then fusion of the levels (RT-DETR, section 4.2).

    From coarse to fine, a level is enlarged and joined with the next finer one; then, from fine to
    coarse, a level is reduced and joined with what the lateral convolution of the next coarser level
    gave. The convolutions read padding too.

    Args:
        num_layers: number of transformer layers.
        layer: config of a transformer layer.
        fusion: config of the block that reads two joined maps, (B, 2 C, H, W) -> (B, C, H, W); its
            input has C channels if they are summed.
        join: how two maps are joined: ``concat``, or ``sum`` (DEIMv2).
        lateral: config of the convolution of a level before it is enlarged, (B, C, H, W) -> the same.
        downsample: config of the convolution that halves a map, (B, C, H, W) -> (B, C, H/2, W/2).
        projected: whether a 1 x 1 convolution with a norm follows on every level; a different
            ``out_dims`` needs it.
        embed_dims: width C of the tokens that enter; the model's ``encoder_dims``.
        out_dims: width of the tokens that leave; None = ``embed_dims``. The position codes keep their
            width, as no attention to these tokens adds them.

    Raises:
        ValueError: ``out_dims`` is another width than ``embed_dims``, but ``projected`` is False; or
            ``join`` is not known.
    """

    def __init__(
        self,
        layer: Mapping,
        num_layers: int = 1,
        fusion: Mapping = FUSION,
        join: str = 'concat',
        lateral: Mapping = LATERAL,
        downsample: Mapping = DOWNSAMPLE,
        projected: bool = True,
        num_levels: int = 3,
        embed_dims: int = 256,
        out_dims: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        out_dims = out_dims or embed_dims
        if out_dims != embed_dims and not projected:
            raise ValueError(
                f'encoder.projected must be True to change the width from {embed_dims} to {out_dims}, '
                'got False; set it, or leave out model.encoder_dims'
            )
        if join not in JOINS:
            raise ValueError(f'encoder.join must be one of {JOINS}, got {join!r}; change it')
        self.out_dims, self.join = out_dims, join
        encoder = {'type': 'Encoder', 'num_layers': num_layers, 'layer': layer}
        self.attention = build_slot(
            MODELS, encoder, 'attention', embed_dims=embed_dims, dropout=dropout
        )
        steps = num_levels - 1

        def convolutions(cfg: Mapping, slot: str, width: int, **more: Any) -> nn.ModuleList:
            channels = {'in_channels': width, 'out_channels': embed_dims, **more}
            return nn.ModuleList(build_slot(MODELS, cfg, slot, **channels) for _ in range(steps))

        self.lateral = convolutions(lateral, 'lateral', embed_dims)
        width = embed_dims if join == 'sum' else 2 * embed_dims
        self.top_down = convolutions(fusion, 'fusion', width)
        self.downsample = convolutions(downsample, 'downsample', embed_dims, stride=2)
        self.bottom_up = convolutions(fusion, 'fusion', width)
        self.projections = None
        if projected:
            self.projections = nn.ModuleList(
                ConvModule(embed_dims, out_dims, 1, norm_cfg=NORM, act_cfg=None)
                for _ in range(num_levels)
            )

    def forward(self, memory: Memory) -> Memory:
        coarsest = self.attention(memory.level(-1))
        maps = [*memory.maps()[:-1], *coarsest.maps()]
        maps = self.fuse(maps)
        if self.projections is not None:
            maps = [project(x) for project, x in zip(self.projections, maps, strict=True)]
        return memory.with_maps(maps)

    def fuse(self, maps: list[Tensor]) -> list[Tensor]:
        """Join the levels: (B, C, H, W) per level, fine to coarse, to maps of the same shapes.

        Raises:
            ValueError: the number of levels is not that of the encoder.
        """
        if len(maps) != len(self.lateral) + 1:
            raise ValueError(
                f'the encoder was built for num_levels={len(self.lateral) + 1}, got {len(maps)} '
                'feature levels; make backbone.out_indices and num_levels agree'
            )
        maps = list(maps)
        for i, (lateral, fuse) in enumerate(zip(self.lateral, self.top_down, strict=True)):
            coarse = len(maps) - 1 - i
            fine = maps[coarse - 1]
            # The lateral map replaces the level: the way back reads it too.
            maps[coarse] = lateral(maps[coarse])
            enlarged = F.interpolate(maps[coarse], size=fine.shape[-2:], mode='nearest')
            maps[coarse - 1] = fuse(self._joined(enlarged, fine))
        for i, (reduce, fuse) in enumerate(zip(self.downsample, self.bottom_up, strict=True)):
            maps[i + 1] = fuse(self._joined(reduce(maps[i]), maps[i + 1]))
        return maps

    def _joined(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other if self.join == 'sum' else torch.cat((one, other), 1)

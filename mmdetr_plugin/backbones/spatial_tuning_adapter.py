"""The adapter that makes maps of several strides from a plain ViT and the image (DEIMv2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from ..build import build_slot
from ..registry import MODELS
from .channels import map_channels

NORM = {'type': 'BN'}


@MODELS.register_module()
class SpatialTuningAdapter(BaseModule):
    """Maps of stride 8, 16 and 32: what a ViT says of the image, resized, next to details.

    Convolutions make the details from the image itself (Huang et al., "Real-Time Object Detection
    Meets DINOv3", section 3.1). The 1 x 1 convolutions that fuse both are the neck.

    Args:
        vit: config of a backbone that gives three maps of any strides, in the order of the levels.
        channels: of the stem of the details. Their maps have 2, 4 and 4 times as many.
        norm_cfg: config of the norm after every convolution.

    Raises:
        ValueError: ``vit`` gives another number of maps.
    """

    def __init__(
        self,
        vit: Mapping,
        channels: int = 16,
        norm_cfg: Mapping = NORM,
        init_cfg: Mapping | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.vit = build_slot(MODELS, vit, 'vit')
        widths = [channels * factor for factor in (1, 2, 4, 4)]
        given = map_channels(self.vit) or []
        if len(given) != 3:
            raise ValueError(
                f'backbone.vit must give three maps, got {len(given)}; change backbone.vit.out_indices'
            )
        self.out_channels = [a + b for a, b in zip(given, widths[1:], strict=True)]
        halve = {'kernel_size': 3, 'stride': 2, 'padding': 1, 'norm_cfg': dict(norm_cfg)}
        self.stem = ConvModule(3, channels, act_cfg={'type': 'GELU'}, **halve)
        self.stages = nn.ModuleList(
            ConvModule(a, b, act_cfg=None, **halve)
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> (B, C, H / 8, W / 8) and the two coarser maps."""
        return tuple(
            torch.cat((self._resized(x, detail), detail), 1)
            for x, detail in zip(self.vit(images), self.details(images), strict=True)
        )

    def details(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, c, H / 8, W / 8) and the two coarser maps."""
        x = F.max_pool2d(self.stem(images), 3, 2, padding=1)
        maps: list[Tensor] = []
        for stage in self.stages:
            maps.append(stage(F.gelu(maps[-1]) if maps else x))
        return maps

    @staticmethod
    def _resized(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, size=like.shape[-2:], mode='bilinear', align_corners=False)

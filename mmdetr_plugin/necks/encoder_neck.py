"""The encoder as a neck of any mmdet detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmdet.models.necks import ChannelMapper
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from ..build import build_slot
from ..registry import MODELS
from ..structures import map_size
from ..transformer.embedding import embed_maps

POSITION = {'type': 'SinePosition', 'offset': -0.5}


@MODELS.register_module()
class EncoderNeck(BaseModule):
    """Projections, position codes and encoder layers: maps in, maps of one width out.

    The default is the encoder of Deformable DETR. The finest maps can bypass the encoder: the next
    coarser output is then enlarged and added to such a map, and a convolution smooths the sum, as in
    FPN.

    A neck does not know which cells are padding. It attends to padding, and positions are relative to
    the padded image; a DETR masks padding.

    Args:
        in_channels: channels of the backbone's maps.
        out_channels: channels of every output map.
        num_outs: number of output maps. If it exceeds the number of the backbone's maps, convolutions
            of stride 2 make the others.
        start_level: index of the first backbone map that is used, as in FPN.
        num_fine: number of maps, the finest ones, that bypass the encoder.
        num_layers: number of encoder layers.
        layer: config of an encoder layer; None = deformable attention, hidden width 1024.
        position: config of the position codes of the maps.
        norm_cfg: config of the norm after every convolution.
        dropout: dropout of the encoder.

    Raises:
        ValueError: ``num_outs``, ``start_level`` and ``num_fine`` do not fit the backbone's maps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_outs: int = 4,
        start_level: int = 0,
        num_fine: int = 0,
        num_layers: int = 6,
        layer: Mapping | None = None,
        position: Mapping = POSITION,
        norm_cfg: Mapping | None = {'type': 'GN', 'num_groups': 32},
        dropout: float = 0.1,
        init_cfg: Mapping | None = None,
    ) -> None:
        super().__init__(init_cfg)
        channels = list(in_channels)[start_level:]
        if not 0 <= num_fine < len(channels) <= num_outs:
            raise ValueError(
                f'num_outs={num_outs} must be at least the number of maps read, {len(channels)}, '
                f'and num_fine={num_fine} below it; change num_outs, start_level or num_fine'
            )
        self.start_level = start_level
        num_levels = num_outs - num_fine
        conv = {'norm_cfg': norm_cfg, 'act_cfg': None, 'bias': True}
        self.lateral = nn.ModuleList(
            ConvModule(width, out_channels, 1, **conv) for width in channels[:num_fine]
        )
        self.smooth = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, padding=1, **conv) for _ in range(num_fine)
        )
        self.projection = ChannelMapper(
            channels[num_fine:], out_channels, kernel_size=1, num_outs=num_levels, **conv
        )
        shared: dict[str, Any] = {'embed_dims': out_channels, 'dropout': dropout}
        position = {'level_embed': num_levels, **position}
        self.position = build_slot(MODELS, position, 'position', **shared)
        if layer is None:
            layer = {
                'self_attn': {'type': 'DeformableAttention', 'num_levels': num_levels},
                'ffn': {'type': 'FeedForward', 'hidden_dims': 1024},
            }
        encoder = {'type': 'Encoder', 'num_layers': num_layers, 'layer': layer}
        self.encoder = build_slot(MODELS, encoder, 'encoder', **shared)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(B, c, h, w) for each backbone map -> (B, C, h, w) for each output map, fine to coarse."""
        levels = levels[self.start_level :]
        maps = self.projection(levels[len(self.lateral) :])
        canvas = map_size(maps[0])
        # Nothing is known to be padding.
        outs = self.encoder(embed_maps(maps, self.position, None, canvas)).maps()
        for level, lateral, smooth in reversed(list(zip(levels, self.lateral, self.smooth))):
            fine = lateral(level)
            outs.insert(0, smooth(fine + F.interpolate(outs[0], size=fine.shape[-2:])))
        return tuple(outs)

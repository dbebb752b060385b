"""mmdet's feature pyramid with norms after its additional maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmcv.cnn import ConvModule
from mmdet.models.necks import FPN

from ..registry import MODELS


@MODELS.register_module()
class NormedFPN(FPN):
    """mmdet's FPN, in which the convolutions that make maps coarser than the backbone's have a norm
    (TSP's code).

    Args:
        extra_norm_cfg: config of that norm.
        kwargs: of mmdet's FPN.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_outs: int,
        extra_norm_cfg: Mapping[str, Any] = {'type': 'SyncBN'},
        add_extra_convs: str = 'on_output',
        relu_before_extra_convs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            num_outs,
            add_extra_convs=add_extra_convs,
            relu_before_extra_convs=relu_before_extra_convs,
            **kwargs,
        )
        for i in range(len(self.lateral_convs), num_outs):
            self.fpn_convs[i] = ConvModule(
                self.fpn_convs[i].in_channels,
                out_channels,
                3,
                stride=2,
                padding=1,
                bias=True,
                norm_cfg=dict(extra_norm_cfg),
                act_cfg=None,
            )

"""ResNet-vd, the backbone of RT-DETR."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import build_norm_layer
from mmdet.models.layers import ResLayer
from torch import Tensor, nn

from ..checkpoints.layouts.rt_detr import vd
from ..registry import MODELS
from .resnet import DilatedResNet


@MODELS.register_module()
class ResNetVD(DilatedResNet):
    """ResNet with a stem of three 3 x 3 convolutions and average pooling in its shortcuts.

    He et al., "Bag of Tricks for Image Classification", CVPR 2019 (ResNet-D). mmdet's ``ResNetV1d``
    is the same for depths from 50 on. Here, as in RT-DETR, the first stage of depths 18 and 34 begins
    with a convolution in the shortcut too, although its input and output are equally wide. Files with
    the names of RT-DETR's repository can be loaded, such as its weights of ImageNet.

    Args:
        depth: 18, 34, 50 or 101.
        kwargs: further arguments of mmdet's ``ResNet``.
    """

    def __init__(self, depth: int, **kwargs: Any) -> None:
        super().__init__(depth, deep_stem=True, avg_down=True, **kwargs)
        self._register_load_state_dict_pre_hook(self._rename_published)

    def make_res_layer(self, **options: Any) -> ResLayer:
        layer = super().make_res_layer(**options)
        if layer[0].downsample is None:
            conv = nn.Conv2d(options['inplanes'], options['planes'], 1, bias=False)
            norm = build_norm_layer(options['norm_cfg'], options['planes'])[1]
            layer[0].downsample = nn.Sequential(conv, norm)
        return layer

    def _rename_published(self, state: dict[str, Tensor], prefix: str, *_: object) -> None:
        """Before loading: published names of tensors in ``state`` become ours."""
        for ours, theirs in vd(self).items():
            start = prefix + str(theirs)
            for name in [name for name in state if name.startswith(start)]:
                state[prefix + ours + name.removeprefix(start)] = state.pop(name)

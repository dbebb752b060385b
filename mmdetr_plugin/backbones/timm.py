"""Backbones of the `timm` library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..registry import MODELS


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """Feature maps of a model that `timm.create_model` makes.

    Args:
        model_name: one of `timm.list_models()`.
        out_indices: indices of the feature maps to return. The last map, at stride 32, has index 4
            in most models, and 3 in ConvNeXt and the hierarchical transformers.
        pretrained: download timm's weights.
        norm_eval: keep the statistics of batch norms fixed; small batches would spoil them.
        options: further arguments of `timm.create_model`. To load weights from a local file, pass
            ``pretrained_cfg_overlay=dict(file=...)``.

    Raises:
        ImportError: timm is not installed.
    """

    def __init__(
        self,
        model_name: str,
        out_indices: Sequence[int] = (4,),
        pretrained: bool = True,
        norm_eval: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise ImportError(
                f'TimmBackbone must import timm, got: {error}; pip install timm'
            ) from error
        self.model = timm.create_model(
            model_name,
            features_only=True,
            out_indices=tuple(out_indices),
            pretrained=pretrained,
            **options,
        )
        self.norm_eval = norm_eval
        self.channels_last = str(getattr(self.model, 'output_fmt', 'NCHW')).endswith('NHWC')

    @property
    def feature_info(self) -> Any:
        """What timm says of the maps: channels and strides."""
        return self.model.feature_info

    def init_weights(self) -> None:
        """Does nothing: timm has already initialised or loaded the weights."""

    def train(self, mode: bool = True) -> TimmBackbone:
        super().train(mode)
        for module in self.modules():
            if self.norm_eval and isinstance(module, _BatchNorm):
                module.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> (B, C, h, w) for each of ``out_indices``."""
        maps = self.model(images)
        return tuple(x.permute(0, 3, 1, 2).contiguous() if self.channels_last else x for x in maps)

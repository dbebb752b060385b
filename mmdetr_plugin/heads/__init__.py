"""Heads and post-processing (slots S10 and S12)."""

from .mask_head import AttentionMaskHead
from .panoptic import PanopticArgmax
from .postprocess import SigmoidTopK, SoftmaxArgmax
from .set_head import Prediction, SetHead

__all__ = [
    'AttentionMaskHead',
    'PanopticArgmax',
    'Prediction',
    'SetHead',
    'SigmoidTopK',
    'SoftmaxArgmax',
]

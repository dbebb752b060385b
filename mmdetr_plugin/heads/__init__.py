"""Heads, mask heads and post-processing."""

from ..structures import Prediction
from .base import Head
from .distinct_head import DistinctHead
from .distribution_head import DistributionHead
from .mask_base import Features, MaskHead
from .mask_head import AttentionMaskHead
from .panoptic import PanopticArgmax
from .postprocess import Detections, PostProcess, SigmoidTopK, SoftmaxArgmax
from .set_head import SetHead

__all__ = [
    'AttentionMaskHead',
    'Detections',
    'DistinctHead',
    'DistributionHead',
    'Features',
    'Head',
    'MaskHead',
    'PanopticArgmax',
    'PostProcess',
    'Prediction',
    'SetHead',
    'SigmoidTopK',
    'SoftmaxArgmax',
]

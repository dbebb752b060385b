"""Heads, mask heads and post-processing."""

from ..structures import Prediction
from .base import Head
from .distinct_head import DistinctHead
from .distribution_head import DistributionHead
from .final_head import DistanceHead, RegionHead
from .mask_base import Features, MaskHead
from .mask_head import AttentionMaskHead
from .panoptic import PanopticArgmax, PanopticTopK
from .postprocess import Detections, PostProcess, SigmoidTopK, SoftmaxArgmax
from .set_head import SetHead
from .suppression import ClasswiseNMS

__all__ = [
    'AttentionMaskHead',
    'ClasswiseNMS',
    'Detections',
    'DistanceHead',
    'DistinctHead',
    'DistributionHead',
    'Features',
    'Head',
    'MaskHead',
    'PanopticArgmax',
    'PanopticTopK',
    'PostProcess',
    'Prediction',
    'RegionHead',
    'SetHead',
    'SigmoidTopK',
    'SoftmaxArgmax',
]

"""Heads and post-processing (slots S10 and S12)."""

from .postprocess import SigmoidTopK, SoftmaxArgmax
from .set_head import Prediction, SetHead

__all__ = ['Prediction', 'SetHead', 'SigmoidTopK', 'SoftmaxArgmax']

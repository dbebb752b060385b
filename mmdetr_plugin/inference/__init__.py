"""Prediction on pictures and videos, from Python (:func:`load`) and for `tools/predict.py`."""

from .detections import ImageDetections
from .loading import load
from .predictor import Predictor

__all__ = ['ImageDetections', 'Predictor', 'load']

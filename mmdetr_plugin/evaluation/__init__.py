"""Metrics."""

from .coco import CheckedCocoMetric
from .panoptic import PanopticMetric
from .things import ThingMetric

__all__ = ['CheckedCocoMetric', 'PanopticMetric', 'ThingMetric']

"""Metrics for panoptic models."""

from .panoptic import PanopticMetric
from .things import ThingMetric

__all__ = ['PanopticMetric', 'ThingMetric']

"""A detector as a graph for other runtimes, with what comes before and after it."""

from .exporting import DifferenceError, export, interface_for
from .graph import DetectionGraph
from .interface import Interface
from .program import capture, example

__all__ = [
    'DetectionGraph',
    'DifferenceError',
    'Interface',
    'capture',
    'example',
    'export',
    'interface_for',
]

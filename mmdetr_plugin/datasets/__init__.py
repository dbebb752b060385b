"""COCO data that are checked, the digits data set, and transforms that load images and segments."""

from .coco import CheckedCocoDataset
from .digits.build import make_digits
from .digits.coco import DIGIT_CLASSES, STUFF_CLASSES
from .image_loading import LoadImage
from .panoptic_loading import LoadPanopticSegments, read_segment_ids

__all__ = [
    'DIGIT_CLASSES',
    'STUFF_CLASSES',
    'CheckedCocoDataset',
    'LoadImage',
    'LoadPanopticSegments',
    'make_digits',
    'read_segment_ids',
]

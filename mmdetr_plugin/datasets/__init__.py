"""The digits data set, and what loads images and panoptic segments and resizes batches."""

from .batch_resize import BatchRandomResize
from .digits.build import make_digits
from .digits.coco import DIGIT_CLASSES, STUFF_CLASSES
from .image_loading import LoadImage
from .panoptic_loading import LoadPanopticSegments, read_segment_ids

__all__ = [
    'DIGIT_CLASSES',
    'STUFF_CLASSES',
    'BatchRandomResize',
    'LoadImage',
    'LoadPanopticSegments',
    'make_digits',
    'read_segment_ids',
]

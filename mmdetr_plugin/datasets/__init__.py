"""The digits data set, and transforms that load images and panoptic segments."""

from .digits.build import make_digits
from .digits.coco import DIGIT_CLASSES, STUFF_CLASSES
from .image_loading import LoadImage
from .panoptic_loading import LoadPanopticSegments, read_segment_ids
from .unlabelled import PackPatches, RandomPatches, UnlabelledImages

__all__ = [
    'DIGIT_CLASSES',
    'STUFF_CLASSES',
    'LoadImage',
    'LoadPanopticSegments',
    'PackPatches',
    'RandomPatches',
    'UnlabelledImages',
    'make_digits',
    'read_segment_ids',
]

"""COCO data that are checked, the digits data set, and what loads, mixes and resizes pictures."""

from .batch_resize import BatchRandomResize
from .coco import CheckedCocoDataset
from .copy_blend import BatchCopyBlend
from .digits.build import make_digits
from .digits.coco import DIGIT_CLASSES, STUFF_CLASSES
from .image_loading import LoadImage
from .mosaic import BatchMixup, QuadMosaic
from .panoptic_loading import LoadPanopticSegments
from .rounding import RoundPixels
from .segment_ids import read_segment_ids
from .unlabelled import PackPatches, RandomPatches, UnlabelledImages

__all__ = [
    'DIGIT_CLASSES',
    'STUFF_CLASSES',
    'BatchCopyBlend',
    'BatchMixup',
    'BatchRandomResize',
    'CheckedCocoDataset',
    'LoadImage',
    'LoadPanopticSegments',
    'PackPatches',
    'QuadMosaic',
    'RandomPatches',
    'RoundPixels',
    'UnlabelledImages',
    'make_digits',
    'read_segment_ids',
]

"""Sources of object queries: their content and reference."""

from .anchors import AnchorQueries
from .base import QuerySource
from .boxes import LearnedBoxes
from .branches import GroupQueries, HybridQueries
from .denoising import DenoisingQueries
from .dense import DenseQueries
from .features import FeaturesOfInterest
from .learned import LearnedQueries, LinearReference
from .patches import PatchQueries
from .proposals import EncoderProposals
from .references import FixedReference, LearnedReference, MLPReference
from .regions import RegionProposals
from .rpn import SeparateRPNHead

__all__ = [
    'AnchorQueries',
    'DenoisingQueries',
    'DenseQueries',
    'EncoderProposals',
    'FeaturesOfInterest',
    'FixedReference',
    'GroupQueries',
    'HybridQueries',
    'LearnedBoxes',
    'LearnedQueries',
    'LearnedReference',
    'LinearReference',
    'MLPReference',
    'PatchQueries',
    'QuerySource',
    'RegionProposals',
    'SeparateRPNHead',
]

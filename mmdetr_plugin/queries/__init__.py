"""Sources of object queries (slots S4 and S5)."""

from .base import QuerySource
from .boxes import LearnedBoxes
from .learned import LearnedQueries, LinearReference
from .proposals import EncoderProposals

__all__ = ['EncoderProposals', 'LearnedBoxes', 'LearnedQueries', 'LinearReference', 'QuerySource']

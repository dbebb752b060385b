"""The values that travel through every variant.

``Memory`` is the image side, ``State`` the query side, ``Outputs`` what the model predicts and
``Targets`` what it should have predicted. All are immutable: a step returns a changed copy made with
:func:`dataclasses.replace`.

Boxes without a word on their frame are (cx, cy, w, h) in 0..1 of the unpadded image; other frames
are named: ``boxes_xyxy``, ``pixel_boxes``, ``box_logits``.
"""

from .memory import Memory, Size, map_size
from .outputs import DenseMasks, Masks, Outputs, Prediction, Proposals
from .reference import LogitReference, Reference, RelativeReference, UnitReference
from .state import Branch, Pairs, State
from .targets import Targets

__all__ = [
    'Branch',
    'DenseMasks',
    'LogitReference',
    'Masks',
    'Memory',
    'Outputs',
    'Pairs',
    'Prediction',
    'Proposals',
    'Reference',
    'RelativeReference',
    'Size',
    'State',
    'Targets',
    'UnitReference',
    'map_size',
]

"""The values that travel through every variant.

``Memory`` is the image side and ``State`` the query side; ``Outputs`` are the predictions and
``Targets`` the objects that the model should find. All are immutable: a step returns a changed copy,
made with :func:`dataclasses.replace`.

Where nothing else is said, boxes are (cx, cy, w, h) in 0..1 of the unpadded image. Names state any
other frame: ``boxes_xyxy``, ``pixel_boxes``, ``box_logits``.
"""

from .memory import Memory, Size, join_maps, map_size
from .outputs import DenseMasks, Masks, Outputs, Prediction, Proposals
from .reference import CellReference, LogitReference, Reference, RelativeReference, UnitReference
from .state import Branch, Pairs, State
from .targets import Targets

__all__ = [
    'Branch',
    'CellReference',
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
    'join_maps',
    'map_size',
]

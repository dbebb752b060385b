"""Weights of one part, from a file of another project: an ``init_cfg`` of MMEngine."""

from __future__ import annotations

from mmengine.logging import print_log
from torch import nn

from ..registry import WEIGHT_INITIALIZERS
from .convert import unwrap
from .files import read_checkpoint
from .names import part_names


@WEIGHT_INITIALIZERS.register_module()
class PretrainedPart:
    """``init_cfg=dict(type='PretrainedPart', checkpoint=FILE, layout='deimv2')`` of a part.

    MMEngine's ``Pretrained`` needs a file with our names. What the part does not have is not read.

    Args:
        checkpoint: a file that holds this part alone.
        layout: that gives the parameters of the part their names in the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it lacks a parameter of the part.
    """

    wholemodule = False  # MMEngine sets it

    def __init__(self, checkpoint: str, layout: str) -> None:
        self.checkpoint, self.layout = checkpoint, layout

    def __call__(self, part: nn.Module) -> None:
        state, names = unwrap(read_checkpoint(self.checkpoint)), part_names(part, self.layout)
        missing = [theirs for theirs in names.values() if theirs not in state]
        if missing:
            raise ValueError(
                f'{self.checkpoint} must hold the weights of a {type(part).__name__} by the names of '
                f"the layout '{self.layout}', but lacks {', '.join(missing[:3])}; give the file of "
                'this part alone, or change init_cfg.layout'
            )
        part.load_state_dict({ours: state[theirs] for ours, theirs in names.items()})
        print_log(f'{type(part).__name__}: weights of {self.checkpoint}', logger='current')

"""The official DINO: heads of the decoder layers, as a rule one for all, and another of the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import official
from .common import of_group
from .deformable import DEFORMABLE
from .layout import Layout, Names, Target
from .registry import register

if TYPE_CHECKING:
    from ...heads.set_head import SetHead
    from ...queries import EncoderProposals


def heads(part: SetHead) -> Names:
    """Each layer's head is named twice, as that of the model and as that of the decoder."""
    names: dict[str, Target] = {}
    own = len(part.class_branches) - part.encoder
    for ours, theirs in (('class', 'class'), ('box', 'bbox')):
        for i in range(own):
            layers = range(part.num_layers) if part.shared else (i,)
            names[f'{ours}_branches.{i}.'] = tuple(
                f'{place}{theirs}_embed.{layer}.'
                for place in ('/', '/transformer.decoder.')
                for layer in layers
            )
        for group in range(part.encoder):
            place = f'/transformer.enc_out_{theirs}_embed{of_group(group)}.'
            names[f'{ours}_branches.{own + group}.'] = place
    return names


def proposals(part: EncoderProposals) -> Names:
    return {
        **official.proposals(part),
        'content.': f'/transformer.tgt_embed{of_group(part.group)}.',
    }


register(
    Layout(
        'dino',
        base=DEFORMABLE,
        parts={
            'EncoderProposals': proposals,
            'SetHead': heads,
        },
    )
)

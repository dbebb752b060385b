"""The official DINO: one head for all decoder layers, another one for the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .deformable import DEFORMABLE
from .layout import Layout, Names, Target
from .registry import register

if TYPE_CHECKING:
    from ...heads.set_head import SetHead


def heads(part: SetHead) -> Names:
    """Each layer's head is named twice, as that of the model and as that of the decoder."""
    places = [
        f'{place}{{kind}}_embed.{layer}.'
        for place in ('/', '/transformer.decoder.')
        for layer in range(part.num_layers)
    ]
    names: dict[str, Target] = {}
    for ours, theirs in (('class', 'class'), ('box', 'bbox')):
        names[f'{ours}_branches.0.'] = tuple(place.format(kind=theirs) for place in places)
        names[f'{ours}_branches.1.'] = f'/transformer.enc_out_{theirs}_embed.'
    return names


register(
    Layout(
        'dino',
        base=DEFORMABLE,
        parts={
            'EncoderProposals': {
                'content.': '/transformer.tgt_embed.',
                'output.': '/transformer.enc_output.',
                'output_norm.': '/transformer.enc_output_norm.',
            },
            'SetHead': heads,
        },
    )
)

"""transformers: ``DeformableDetrForObjectDetection``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from .common import numbered_heads, numbered_projections
from .hf import HF, names_of_models, tie_
from .layout import ABSENT, Layout
from .registry import register


def from_file(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a file by the names of the model, heads that are tied by all of theirs."""
    out = names_of_models(state)
    first, second = (out.get(f'bbox_embed.{i}.layers.2.bias') for i in (0, 1))
    refined = first is not None and second is not None and not torch.equal(first, second)
    for kind, inside in (('bbox', refined), ('class', 'model.enc_output.weight' in out)):
        ours, inner = f'{kind}_embed.', f'model.decoder.{kind}_embed.'
        tie_(out, inner, ours)
        if inside:
            tie_(out, ours, inner)
        for layer in {n.split('.')[3] for n in out if n.startswith('model.decoder.layers.')}:
            tie_(out, f'{ours}0.', f'{ours}{layer}.')
    return out


register(
    Layout(
        'hf_deformable',
        base=HF,
        official='deformable',
        marks=('model.input_proj.',),
        from_file=from_file,
        parts={
            'ChannelMapper': partial(numbered_projections, root='/model.'),
            'DecoupledAttention': ABSENT,
            'LearnedBoxes': ABSENT,
            'SetHead': partial(numbered_heads, decoder='/model.decoder.'),
        },
    )
)

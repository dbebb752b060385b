"""transformers: ``RTDetrForObjectDetection`` and ``RTDetrV2ForObjectDetection``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from .hf import HF, name_in_model, tie_
from .layout import Layout, Names, Target
from .registry import register
from .rt_detr import VDNames, scales, vd

if TYPE_CHECKING:
    from mmdet.models.necks import ChannelMapper

    from ...heads.set_head import SetHead
    from ...transformer.hybrid_encoder import HybridEncoder

OF_SIZE = ('model.anchors', 'model.valid_mask')
HEADS = ('class_embed.', 'bbox_embed.')
INSIDE = 'model.decoder.'
BACKBONE = VDNames(
    stem='embedder.embedder.{i}.',
    block='encoder.stages.{s}.layers.{b}.',
    branches=('layer.0.', 'layer.1.', 'layer.2.'),
    short='shortcut.',
    pooled='shortcut.1.',
    conv='convolution.',
    norm='normalization.',
)


def from_file(state: Mapping[str, Tensor], twice: bool = False) -> dict[str, Tensor]:
    """Tensors of a file by the names of the model.

    Args:
        twice: whether the model names its heads inside and outside of the decoder; files name them in
            one of the two places, or in both.
    """
    out = {}
    for name, value in state.items():
        if name not in OF_SIZE:
            name = name.replace('model.encoder.encoder.', 'model.encoder.aifi.')
            out[name_in_model(name)] = value
    for head in HEADS:
        tie_(out, head, INSIDE + head)
        if twice:
            tie_(out, INSIDE + head, head)
    return out if twice else {n: v for n, v in out.items() if not n.startswith(HEADS)}


def neck(part: ChannelMapper) -> Names:
    return _sequences('convs', '/model.encoder_input_proj', len(part.convs))


def _sequences(ours: str, theirs: str, number: int) -> dict[str, Target]:
    """Names of convolutions with a norm after each, which stand in a sequence there."""
    kinds = ('conv', 'bn')
    return {
        f'{ours}.{i}.{kind}.': f'{theirs}.{i}.{kinds.index(kind)}.'
        for i in range(number)
        for kind in kinds
    }


def hybrid(part: HybridEncoder) -> Names:
    names: dict[str, Target] = {
        'attention.layers.': '/model.encoder.aifi.0.layers.',
        'lateral.': '/model.encoder.lateral_convs.',
        'top_down.': '/model.encoder.fpn_blocks.',
        'downsample.': '/model.encoder.downsample_convs.',
        'bottom_up.': '/model.encoder.pan_blocks.',
    }
    number = len(part.projections or ())
    return {**names, **_sequences('projections', '/model.decoder_input_proj', number)}


def heads(part: SetHead, twice: bool = False) -> Names:
    own = len(part.class_branches) - part.encoder
    names: dict[str, Target] = {
        f'class_branches.{own}.': '/model.enc_score_head.',
        f'box_branches.{own}.': '/model.enc_bbox_head.',
    }
    places = (f'/{INSIDE}', '/') if twice else (f'/{INSIDE}',)
    for kind, head in zip(('class', 'box'), HEADS, strict=True):
        for i in range(own):
            names[f'{kind}_branches.{i}.'] = tuple(f'{place}{head}{i}.' for place in places)
    return names


HF_RT_DETR = register(
    Layout(
        'hf_rt_detr',
        base=HF,
        official='rt_detr',
        marks=('model.encoder_input_proj.',),
        from_file=from_file,
        counters=True,
        parts={
            'ResNetVD': partial(vd, names=BACKBONE),
            'ChannelMapper': neck,
            'ConvModule': {'bn.': 'norm.'},
            'HybridEncoder': hybrid,
            'CSPRepBlock': {'blocks.': 'bottlenecks.'},
            'RepVGGBlock': {'conv3.': 'conv1.', 'conv1.': 'conv2.'},
            'MLPPosition': {'mlp.': '/model.decoder.query_pos_head.'},
            'DenoisingQueries': {'labels.': '/model.denoising_class_embed.'},
            'EncoderProposals': {
                'output.': '/model.enc_output.0.',
                'output_norm.': '/model.enc_output.1.',
            },
            'SetHead': heads,
        },
    )
)

register(
    Layout(
        'hf_rt_detr_v2',
        base=HF_RT_DETR,
        official='rt_detr_v2',
        marks=(*HF_RT_DETR.marks, 'model.decoder.layers.0.encoder_attn.n_points_scale'),
        from_file=partial(from_file, twice=True),
        constants=partial(scales, name='model.decoder.layers.{}.encoder_attn.n_points_scale'),
        parts={'SetHead': partial(heads, twice=True)},
    )
)

"""transformers: ``Deimv2ForObjectDetection`` with a DINOv3.

Version 5.23 has steps that the authors' model does not have: a projection with a norm before the
proposal heads, a norm after the last block of the ViT, and factors in its blocks. Where the authors'
weights are converted, these keep their initial values; they are written so, and nothing else is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .hf_d_fine import HF_D_FINE, of_d_fine
from .hf_rt_detr import INSIDE
from .layout import Layout, Names, Target
from .registry import register
from .rt_detr import scales

if TYPE_CHECKING:
    from mmdet.models.necks import ChannelMapper

    from ...backbones import SpatialTuningAdapter
    from ...detector import DETR

IMAGES = 'model.conv_encoder.'
VIT = f'{IMAGES}backbone.'
INITIAL = re.compile(
    r'.*\.layer_scale[12]\.lambda1'
    rf'|{re.escape(VIT)}(?:norm\.(?:weight|bias)|embeddings\.(?:mask|register)_tokens?)'
    r'|model\.enc_output\.[01]\.(?:weight|bias)'
)
"""Names of the tensors that the authors' model does not have."""


def initial(name: str, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """The value of such a tensor in a file that was converted from the authors'."""
    if name.endswith('enc_output.0.weight'):
        return torch.eye(shape[0])
    return torch.ones(shape) if name.endswith(('lambda1', 'weight')) else torch.zeros(shape)


def of_deimv2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a file by the names of the model, with a bias of the keys in the ViT.

    Raises:
        ValueError: transformers has trained what the authors' model does not have.
    """
    out = {}
    for name, value in of_d_fine(state).items():
        name = name.replace(f'{VIT}layer.', f'{VIT}model.layer.')  # as it is saved
        if not INITIAL.fullmatch(name):
            out[name] = value
        elif 'embeddings.' not in name and not torch.equal(
            value, initial(name, value.shape).to(value)
        ):
            raise ValueError(
                f'{name} must have its initial value, as in files that were converted from the '
                "authors', got a trained one, which has no counterpart here; give the authors' file"
            )
    for name in [name for name in out if name.startswith(VIT) and name.endswith('q_proj.bias')]:
        out.setdefault(name.replace('q_proj', 'k_proj'), torch.zeros_like(out[name]))
    return out


def constants(model: DETR) -> dict[str, Tensor]:
    vit = model.backbone.vit
    dims, width = len(vit.patch_embed.bias), model.embed_dims
    shapes: dict[str, tuple[int, ...]] = {
        f'{VIT}embeddings.mask_token': (1, 1, dims),
        f'{VIT}embeddings.register_tokens': (1, 0, dims),
        f'{VIT}norm.weight': (dims,),
        f'{VIT}norm.bias': (dims,),
        'model.enc_output.0.weight': (width, width),
    }
    shapes |= {f'model.enc_output.{name}': (width,) for name in ('0.bias', '1.weight', '1.bias')}
    for i in range(len(vit.blocks)):
        shapes |= {f'{VIT}model.layer.{i}.layer_scale{n}.lambda1': (dims,) for n in (1, 2)}
    fixed = {name: initial(name, shape) for name, shape in shapes.items()}
    return {**fixed, **scales(model, INSIDE + 'layers.{}.encoder_attn.num_points_scale')}


def neck(part: ChannelMapper) -> Names:
    return {f'convs.{i}.': f'/{IMAGES}fusion_proj.{i}.' for i in range(len(part.convs))}


def adapter(part: SpatialTuningAdapter) -> Names:
    details = 'spatial_tuning_adapter.'
    names: dict[str, Target] = {'vit.': 'backbone.', 'stem.': f'{details}stem_conv.'}
    for i in range(len(part.stages)):
        names[f'stages.{i}.'] = f'{details}conv{i + 2}.'
    return names


register(
    Layout(
        'hf_deimv2',
        base=HF_D_FINE,
        official='deimv2',
        marks=(f'{IMAGES}spatial_tuning_adapter.', f'{IMAGES}fusion_proj.'),
        from_file=of_deimv2,
        constants=constants,
        parts={
            'DETR': {
                'backbone.': f'/{IMAGES}',
                'encoder.': '/model.encoder.',
                'decoder.': f'/{INSIDE}',
            },
            'SpatialTuningAdapter': adapter,
            'WindowedViT': {
                'class_token': 'embeddings.cls_token',
                'patch_embed.': 'embeddings.patch_embeddings.',
                'blocks.': 'model.layer.',
            },
            'ViTBlock': {
                'attn.qkv.': [f'attention.{x}_proj.' for x in 'qkv'],
                'attn.proj.': 'attention.o_proj.',
                'mlp.linear1.': 'mlp.up_proj.',
                'mlp.linear2.': 'mlp.down_proj.',
            },
            'ChannelMapper': neck,
            'RepNCSPELAN4': {
                'enter.': 'conv1.',
                'first.0.': 'csp_rep1.',
                'second.0.': 'csp_rep2.',
                'leave.': 'conv2.',
            },
            'GatedFeedForward': {'enter.': ['gate_proj.', 'up_proj.'], 'leave.': 'down_proj.'},
        },
    )
)

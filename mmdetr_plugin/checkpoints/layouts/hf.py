"""transformers: what its DETR models have in common.

The tables have the names of the models of version 5.23. ``save_pretrained`` writes the names that
earlier versions had, and the published files have them too. ResNet comes from timm, with torchvision's
names, or is transformers' own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .common import COMMON, ELSEWHERE_ABSENT
from .layout import Layout, Target

BACKBONE = r'(model\.backbone\.(?:conv_encoder\.)?model\.)'
NATIVE = {
    'convolution': ('conv', 'downsample.0'),
    'normalization': ('bn', 'downsample.1'),
}
"""Parts of a block of transformers' own ResNet; torchvision's names by number and in the shortcut."""

RENAMED = (
    (r'model\.backbone\.conv_encoder\.', 'model.backbone.'),
    (r'(.*layers\.\d+\.(?:self|encoder)_attn\.)out_proj\.', r'\1o_proj.'),
    (r'(.*layers\.\d+\.)(fc[12])\.', r'\1mlp.\2.'),
    (r'(.*layers\.\d+\.)sa_([qk])(content|pos)_', r'\1self_attn.\2_\3_'),
    (r'(.*layers\.\d+\.)sa_v_', r'\1self_attn.v_'),
    (r'(.*layers\.\d+\.)ca_([qk])(content|pos)_', r'\1encoder_attn.\2_\3_'),
    (r'(.*layers\.\d+\.)ca_v_', r'\1encoder_attn.v_'),
)
"""What the parts of DETR, Conditional and Deformable DETR are called in files, and in the models."""


def names_of_models(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as files name them -> by the names of the models, with a ResNet of timm."""
    return {name_in_timm(name_in_model(name)): value for name, value in state.items()}


def name_in_model(name: str) -> str:
    """The name in a model of a tensor of a file."""
    for pattern, new in RENAMED:
        name = re.sub(f'^{pattern}', new, name)
    return name


def name_in_timm(name: str) -> str:
    """The name in timm's ResNet of a tensor of transformers' own; others keep their names."""
    name = re.sub(rf'^{BACKBONE}embedder\.embedder\.(\w+)', _stem, name)
    block = r'encoder\.stages\.(\d+)\.layers\.(\d+)\.(?:shortcut|layer\.(\d+))\.(\w+)'
    return re.sub(rf'^{BACKBONE}{block}', _block, name)


def _stem(found: re.Match) -> str:
    return f'{found[1]}{NATIVE[found[2]][0]}1'


def _block(found: re.Match) -> str:
    root, stage, number, layer, kind = found.groups()
    numbered, shortcut = NATIVE[kind]
    part = shortcut if layer is None else f'{numbered}{int(layer) + 1}'
    return f'{root}layer{int(stage) + 1}.{number}.{part}'


def tie_(state: dict[str, Tensor], prefix: str, other: str) -> None:
    """Name what begins with ``prefix`` by ``other`` too, where that name is free.

    Tensors that are tied have several names in a model; files have but one of them.
    """
    for name in [name for name in state if name.startswith(prefix)]:
        state.setdefault(other + name.removeprefix(prefix), state[name])


def attention(out: str) -> dict[str, Target]:
    """Query, key and value apart; ``out`` is the projection after them."""
    kinds = ('weight', 'bias')
    split: dict[str, Target] = {f'in_proj_{k}': [f'{x}_proj.{k}' for x in 'qkv'] for k in kinds}
    return {**split, 'out_proj.': out}


HF = Layout(
    'hf',
    base=COMMON,
    origin='hf',
    parts={
        **ELSEWHERE_ABSENT,
        'DETR': {
            'backbone.': '/model.backbone.model.',
            'encoder.': '/model.encoder.',
            'decoder.': '/model.decoder.',
        },
        'PositionEncoding': {'level_embed': '/model.level_embed'},
        'LearnedPosition': {
            'columns.': '/model.position_embedding.column_embeddings.',
            'rows.': '/model.position_embedding.row_embeddings.',
        },
        'EncoderLayer': {
            'self_attn_out.norm.': 'self_attn_layer_norm.',
            'ffn.': 'mlp.',
            'ffn_out.norm.': 'final_layer_norm.',
        },
        'DecoderLayer': {
            'self_attn_out.norm.': 'self_attn_layer_norm.',
            'cross_attn.': 'encoder_attn.',
            'cross_attn_out.norm.': 'encoder_attn_layer_norm.',
            'ffn.': 'mlp.',
            'ffn_out.norm.': 'final_layer_norm.',
        },
        'Decoder': {'norm.': 'layernorm.'},
        'FeedForward': {'linear1.': 'fc1.', 'activation.': 'activation_fn.', 'linear2.': 'fc2.'},
        'MultiheadAttention': attention(out='o_proj.'),
        'LearnedQueries': {'embedding.': '/model.query_position_embeddings.'},
        'LinearReference': {'': '/model.reference_points.'},
        'MLPReference': {'': '/model.decoder.ref_point_head.'},
        'EncoderProposals': {
            'output.': '/model.enc_output.',
            'output_norm.': '/model.enc_output_norm.',
            'position.': '/model.pos_trans.',
            'position_norm.': '/model.pos_trans_norm.',
        },
    },
)
"""A base, no layout of files."""

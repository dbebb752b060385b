"""Names in the files of transformers -> those of its models, version 5.23.

``save_pretrained`` writes the names that earlier versions had, and the published files have them too;
the models call their parts otherwise since version 5. ResNet comes from timm, with torchvision's names,
or is transformers' own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

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
"""What the parts of DETR, Conditional and Deformable DETR are called in files, and in the models.
DAB-DETR has one name each, but for a ResNet of timm it has ``_backbone`` in between."""


def names_of_models(state: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Tensors by the names of the models of version 5.23, with a ResNet of timm.

    Tensors that are tied have all of their names; files have but one of them.
    """
    out = {_rename(name, layout): value for name, value in state.items()}
    if layout == 'hf_dab':
        _tie(out, 'bbox_predictor.', 'model.decoder.bbox_embed.')
        _tie(out, 'model.decoder.bbox_embed.', 'bbox_predictor.')
    elif layout == 'hf_deformable':
        biases = [out.get(f'bbox_embed.{i}.layers.2.bias') for i in (0, 1)]
        refined = None not in biases and not torch.equal(*biases)
        for kind, inside in (('bbox', refined), ('class', 'model.enc_output.weight' in out)):
            ours, inner = f'{kind}_embed.', f'model.decoder.{kind}_embed.'
            _tie(out, inner, ours)
            if inside:
                _tie(out, ours, inner)
            for layer in {n.split('.')[3] for n in out if n.startswith('model.decoder.layers.')}:
                _tie(out, f'{ours}0.', f'{ours}{layer}.')
    return out


def _tie(state: dict[str, Tensor], prefix: str, other: str) -> None:
    """Name what begins with ``prefix`` by ``other`` too, where that name is free."""
    for name in [name for name in state if name.startswith(prefix)]:
        state.setdefault(other + name.removeprefix(prefix), state[name])


def _rename(name: str, layout: str) -> str:
    for pattern, new in RENAMED if layout != 'hf_dab' else ():
        name = re.sub(f'^{pattern}', new, name)
    name = re.sub(rf'^{BACKBONE}embedder\.embedder\.(\w+)', _stem, name)
    block = r'encoder\.stages\.(\d+)\.layers\.(\d+)\.(?:shortcut|layer\.(\d+))\.(\w+)'
    name = re.sub(rf'^{BACKBONE}{block}', _block, name)
    if layout == 'hf_dab':
        name = re.sub(rf'^{BACKBONE}(?!_backbone\.)', r'\1_backbone.', name)
    return name


def _stem(found: re.Match) -> str:
    return f'{found[1]}{NATIVE[found[2]][0]}1'


def _block(found: re.Match) -> str:
    root, stage, number, layer, kind = found.groups()
    numbered, shortcut = NATIVE[kind]
    part = shortcut if layer is None else f'{numbered}{int(layer) + 1}'
    return f'{root}layer{int(stage) + 1}.{number}.{part}'

"""Names in the files of transformers -> those of its models, version 5.23.

``save_pretrained`` writes the names that earlier versions had, and the published files have them too;
the models call their parts otherwise since version 5. ResNet comes from timm, with torchvision's names,
or is transformers' own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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
DAB-DETR has one name each."""

TIED = {
    'hf_dab': ((r'bbox_predictor\.', 'model.decoder.bbox_embed.'),),
    'hf_deformable': (
        (r'model\.decoder\.(bbox|class)_embed\.', r'\1_embed.'),
        (r'(bbox|class)_embed\.0\.', r'\1_embed.{layer}.'),
    ),
}
"""By layout, what a file may hold once for all names of a tensor -> the other names."""


def names_of_models(state: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Tensors by the names of the models of version 5.23, with a ResNet of timm.

    Tensors that are tied have all of their names; files have but one of them.
    """
    out = {_rename(name, layout): value for name, value in state.items()}
    layers = {name.split('.')[3] for name in out if name.startswith('model.decoder.layers.')}
    for name, value in list(out.items()):
        for pattern, other in TIED.get(layout, ()):
            if re.match(pattern, name):
                for layer in layers:
                    new = re.sub(pattern, other.replace('{layer}', layer), name)
                    out.setdefault(new, value)
    return out


def _rename(name: str, layout: str) -> str:
    for pattern, new in RENAMED if layout != 'hf_dab' else ():
        name = re.sub(f'^{pattern}', new, name)
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

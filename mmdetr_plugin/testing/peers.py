"""Models of other projects and ours, with the same random weights: for tests and benchmarks.

Nothing is downloaded. Every parameter and every statistic of a norm is drawn at random: the usual
initial values (zeros of the box heads, above all) would hide differences.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mmdet
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from torch import nn

from ..backbones.hgnet import ARCHS, scaled
from ..checkpoints import to_ours
from ..detector import DETR
from ..engine.project import config_path
from ..registry import MODELS
from .shrinking import ModelSize, shrink

MMDET = {
    'detr_r50': 'detr/detr_r50_8xb2-150e_coco',
    'detr_dc5_r50': 'detr/detr_r50_8xb2-150e_coco',
    'conditional_detr_r50': 'conditional_detr/conditional-detr_r50_8xb2-50e_coco',
    'dab_detr_r50': 'dab_detr/dab-detr_r50_8xb2-50e_coco',
    'deformable_detr_r50': 'deformable_detr/deformable-detr_r50_16xb2-50e_coco',
    'deformable_detr_refine_r50': 'deformable_detr/deformable-detr-refine_r50_16xb2-50e_coco',
    'deformable_detr_two_stage_r50': (
        'deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco'
    ),
    'dino_r50_mmdet': 'dino/dino-4scale_r50_8xb2-12e_coco',
    'ddq_detr_r50': 'ddq/ddq-detr-4scale_r50_8xb2-12e_coco',
}
"""Our configs, and mmdet's of the same models. mmdet has none with a dilated backbone: the one here is
mmdet's DETR with the backbone arguments that its users write for DC5."""

HF: dict[str, tuple[str, dict[str, Any]]] = {
    'detr_r50': ('Detr', {}),
    'conditional_detr_r50': ('ConditionalDetr', {}),
    'dab_detr_r50': ('DabDetr', {}),
    'deformable_detr_r50': ('DeformableDetr', {}),
    'deformable_detr_refine_r50': ('DeformableDetr', {'with_box_refine': True}),
    'deformable_detr_two_stage_r50': (
        'DeformableDetr',
        {'with_box_refine': True, 'two_stage': True},
    ),
}
HF_VD: dict[str, tuple[str, dict[str, Any]]] = {
    'rt_detr_r18': ('RTDetr', {'decoder_layers': 3, 'hidden_expansion': 0.5}),
    'rt_detr_r50': ('RTDetr', {}),
    'rtdetrv2_r18': ('RTDetrV2', {'decoder_layers': 3, 'hidden_expansion': 0.5}),
}
HF_HG: dict[str, tuple[str, dict[str, Any]]] = {
    'd_fine_s': (
        'DFine',
        {
            'decoder_layers': 3,
            'decoder_n_points': [3, 6, 3],
            'hidden_expansion': 0.5,
            'depth_mult': 0.34,
        },
    ),
}
UNPADDED = {**HF_VD, **HF_HG}  # the real-time models, which know no padding there
HF |= UNPADDED
"""Our configs, and the models of transformers with what differs from their default configs."""

TABLES = ('embedding.weight', 'embeddings.weight', 'boxes.weight', 'level_embed')
"""Matrices whose rows are used directly, not multiplied with."""

CONSTANTS = (
    *('n_points_scale', 'num_points_scale', '.up', '.reg_scale', 'head.reach', 'head.scale'),
    'inv_freq',
)
"""Numbers that follow from the configs."""

SMALL = ModelSize(
    depths=(2, 3),
    backbone={'depth': 18, 'base_channels': 16, 'stem_channels': 16},
    everywhere={'num_queries': 100},
)
"""The size of a small pair. Widths of layers stay: they stand in many places of mmdet's configs."""

DC5 = {'strides': (1, 2, 2, 1), 'dilations': (1, 1, 1, 2)}


def mmdet_pair(name: str, seed: int = 0, small: bool = False) -> tuple[Any, DETR]:
    """mmdet's model and that of our config ``name``, in evaluation mode, with equal weights.

    mmdet dilates every block of a dilated stage and torchvision, whose weights the published DC5
    models were trained from, all but the first: ``detr_dc5_r50`` has mmdet's backbone in both models.

    Args:
        name: one of ``MMDET``.
        small: fewer layers and a thin backbone in both.
    """
    theirs, ours = mmdet_config(name), our_config(name)
    if '_dc5_' in name:
        ours.model.backbone.type = 'mmdet.ResNet'
    if small:
        for cfg in (theirs, ours):
            cfg.model = shrink(cfg.model, SMALL)
    peer = randomise_(build(theirs.model, 'mmdet'), seed)
    model = build(ours.model, 'mmdetr_plugin')
    model.load_state_dict(to_ours(peer.state_dict(), model)[0])
    return peer, model


def hf_pair(name: str, seed: int = 0, small: bool = False) -> tuple[Any, DETR]:
    """The model of transformers and that of our config ``name``, see :func:`mmdet_pair`.

    Theirs has the default config, but for our 80 classes, the plain form of deformable attention,
    and a ResNet of transformers itself, which needs no timm.
    """
    import transformers  # only these pairs need it

    kind, options = HF[name]
    ours = our_config(name)
    if small:
        ours.model = shrink(ours.model, SMALL)
        layers = dict(zip(('encoder_layers', 'decoder_layers'), SMALL.depths))
        number = SMALL.everywhere['num_queries']
        options = {**options, **layers, 'num_queries': number}
        if options.get('two_stage'):
            options['two_stage_num_proposals'] = number
    backbone = ours.model.backbone
    width = backbone.get('base_channels', 64)
    resnet: dict[str, Any] = {
        'embedding_size': width,
        'hidden_sizes': [width * 2**i * (1 if small else 4) for i in range(4)],
        'depths': [2, 2, 2, 2] if small else [3, 4, 6, 3],
        'layer_type': 'basic' if small else 'bottleneck',
        'out_features': [f'stage{i + 1}' for i in backbone.out_indices],
    }
    if name in HF_HG:
        options = {**options, **hgnet_options(backbone)}
        options.pop('encoder_layers', None)
    elif name in HF_VD:
        if small or '_r18' in name:
            resnet |= {'depths': [2, 2, 2, 2], 'layer_type': 'basic'}
            resnet['hidden_sizes'] = [width * 2**i for i in range(4)]
        options = {
            **options,
            'backbone_config': transformers.RTDetrResNetConfig(**resnet),
            'encoder_in_channels': resnet['hidden_sizes'][1:],
            'freeze_backbone_batch_norms': not backbone.norm_cfg.requires_grad,
        }
        options.pop('encoder_layers', None)  # there is one
    else:
        options = {
            **options,
            'backbone_config': transformers.ResNetConfig(**resnet),
            'disable_custom_kernels': True,
        }
    config = getattr(transformers, f'{kind}Config')(num_labels=80, **options)
    peer = getattr(transformers, f'{kind}ForObjectDetection')(config).eval()
    model = build(ours.model, 'mmdetr_plugin')
    randomise_(peer, seed, gain_of(name))
    model.load_state_dict(to_ours(peer.state_dict(), model)[0])
    return peer, model


def hgnet_options(backbone: ConfigDict) -> dict[str, Any]:
    """Arguments of transformers' config of D-FINE, for our backbone."""
    import transformers

    arch = scaled(ARCHS[backbone.arch], backbone.get('width', 1.0))
    widths = [arch.stem_channels[1], *(stage.out_channels for stage in arch.stages)]
    blocks = [stage.num_blocks for stage in arch.stages]
    stages: dict[str, Any] = {'out_features': [f'stage{i + 1}' for i in backbone.out_indices]}
    config = transformers.HGNetV2Config(
        embedding_size=widths[0],
        hidden_sizes=widths[1:],
        depths=blocks,
        stem_channels=[3, *arch.stem_channels],
        stage_in_channels=widths[:-1],
        stage_mid_channels=[stage.mid_channels for stage in arch.stages],
        stage_out_channels=widths[1:],
        stage_num_blocks=blocks,
        stage_numb_of_layers=[arch.num_layers] * len(blocks),
        use_learnable_affine_block=backbone.affine,
        **stages,
    )
    return {
        'backbone_config': config,
        'encoder_in_channels': [widths[i + 1] for i in backbone.out_indices],
        'freeze_backbone_batch_norms': backbone.frozen_norms,
    }


def mmdet_config(name: str) -> Config:
    """mmdet's own config of the model of our config ``name``."""
    folder = Path(mmdet.__file__).parent / '.mim' / 'configs'
    cfg = Config.fromfile(folder / f'{MMDET[name]}.py')
    if '_dc5_' in name:
        cfg.model.backbone.update(DC5)
    return cfg


def our_config(name: str) -> Config:
    """Our config of that name."""
    return Config.fromfile(config_path(name))


def build(model: ConfigDict, scope: str) -> Any:
    """The model of a config, without weights of the backbone, in evaluation mode."""
    model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(model).eval()


def gain_of(name: str) -> float:
    """The gain of a model's convolutions that :func:`randomise_` needs."""
    return 2**0.5 if name in HF_HG else 1.0


@torch.no_grad()
def randomise_(model: nn.Module, seed: int = 0, gain: float = 1.0) -> nn.Module:
    """Set every parameter and statistic to random values, scaled so that activations stay moderate.

    Args:
        gain: of convolutions. Without residual connections it must be the root of 2, or ReLUs make all
            places of the coarse maps nearly equal, and which tokens are selected is then arbitrary.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not (tensor.is_floating_point() and tensor.numel()) or name.endswith(CONSTANTS):
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith('running_var'):
            tensor.copy_(1 + 0.3 * noise.tanh())
        elif tensor.dim() > 1:
            scale = (gain if tensor.dim() == 4 else 1.0) * tensor[0].numel() ** -0.5
            table = tensor.dim() < 4 and name.endswith(TABLES)
            tensor.copy_(noise if table else noise * scale)
        elif name.endswith('weight'):  # of a norm, or the slope of a PReLU
            tensor.copy_(1 + 0.1 * noise)
        else:
            tensor.copy_(0.1 * noise)
    return model

"""transformers' DEIMv2 and ours, with the same random weights: see ``peers.py``."""

from __future__ import annotations

from typing import Any

from mmengine.config import ConfigDict
from torch import Tensor, nn

from ..checkpoints import to_ours
from ..checkpoints.layouts import get_layout
from ..detector import DETR
from .peers import build, our_config, randomise_
from .shrinking import ModelSize, shrink

SMALL = ModelSize(depths=(1, 2), backbone={}, everywhere={'num_queries': 40})


def deimv2_pair(name: str, seed: int = 0, small: bool = False) -> tuple[Any, DETR]:
    """The model of transformers and that of our config ``name``, see :func:`~.peers.mmdet_pair`.

    What the authors' model does not have keeps its initial values; :func:`as_published_` takes it out.

    Args:
        small: a thin ViT, two decoder layers and few queries in both.
    """
    ours = our_config(name).model
    if small:
        ours = shrink(ours, SMALL)
    peer = randomise_(transformers_model(ours), seed)
    model = build(ours, 'mmdetr_plugin')
    peer.load_state_dict(get_layout('hf_deimv2').constants_of(model), strict=False)
    model.load_state_dict(to_ours(peer.state_dict(), model)[0])
    return peer, model


def transformers_model(model: ConfigDict) -> Any:
    """transformers' model with the sizes of one of our configs, without its weights."""
    import transformers  # only these pairs need it

    vit, encoder, decoder = model.backbone.vit, model.encoder, model.decoder
    fusion = encoder.fusion
    widths = [model.embed_dims] * model.num_levels
    backbone: dict[str, Any] = {
        'hidden_size': vit.embed_dims,
        'intermediate_size': 4 * vit.embed_dims,
        'num_hidden_layers': vit.depth,
        'num_attention_heads': vit.num_heads,
        'patch_size': vit.patch_size,
        'out_indices': [i + 1 for i in vit.out_indices],  # 0 is what enters the first block
        'layer_norm_eps': 1e-6,
        'key_bias': True,
        'pos_embed_rescale': None,
        'apply_layernorm': False,
    }
    detector: dict[str, Any] = {
        'num_labels': model.num_classes,
        'num_queries': model.queries.num_queries,
        'encoder_in_channels': widths,
        'encoder_hidden_dim': model.embed_dims,
        'encoder_ffn_dim': encoder.layer.ffn.hidden_dims,
        'encoder_fuse_op': encoder.join,
        'encoder_has_trailing_conv': fusion.smooth,
        'hidden_expansion': fusion.expansion,
        'depth_mult': fusion.num_blocks / 3,
        'd_model': model.embed_dims,
        'decoder_in_channels': widths,
        'decoder_ffn_dim': 2 * decoder.layer.ffn.hidden_dims,
        'decoder_layers': decoder.num_layers,
        'decoder_n_points': list(decoder.layer.cross_attn.num_points),
        'decoder_activation_function': 'silu',
    }
    config = transformers.Deimv2Config(
        backbone_config=transformers.DINOv3ViTConfig(**backbone), **detector
    )
    return transformers.Deimv2ForObjectDetection(config).eval()


def as_published_(peer: Any) -> Any:
    """Change what transformers 5.23 computes in another way than the authors.

    It has a projection and a norm before the proposal heads, a norm after the last block of the ViT,
    ReLU in the heads, and computes the position of the queries before every layer.
    """
    peer.model.enc_output = nn.Identity()
    peer.model.conv_encoder.backbone.norm = nn.Identity()
    for part in peer.modules():
        if isinstance(getattr(part, 'act', None), nn.ReLU):
            part.act = nn.SiLU()
    decoder = peer.model.decoder
    first: list[Tensor] = []

    def keep(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        first.append(output)
        return first[0]

    decoder.query_pos_head.register_forward_hook(keep)
    decoder.register_forward_pre_hook(lambda *_: first.clear())
    return peer

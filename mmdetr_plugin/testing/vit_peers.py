"""transformers' LW-DETR and RF-DETR and ours, with the same random weights: see ``peers.py``."""

from __future__ import annotations

from typing import Any

from mmengine.config import ConfigDict

from ..checkpoints import to_ours
from ..detector import DETR
from .peers import build, our_config, randomise_
from .shrinking import ModelSize, shrink

SMALL = ModelSize(depths=(0, 2), backbone={}, everywhere={'num_queries': 20})


def vit_pair(name: str, seed: int = 0, small: bool = False, **changes: object) -> tuple[Any, DETR]:
    """The model of transformers and that of our config ``name``, see :func:`~.peers.mmdet_pair`.

    Args:
        name: a config of LW-DETR or RF-DETR.
        small: a thin backbone, two decoder layers and few queries in both.
        changes: entries of our ``model`` to replace; a key may have dots.
    """
    cfg = our_config(name)
    cfg.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    ours = cfg.model
    if small:
        ours = shrink(ours, SMALL)
    peer = randomise_(transformers_model(ours), seed)
    model = build(ours, 'mmdetr_plugin')
    model.load_state_dict(to_ours(peer.state_dict(), model)[0])
    return peer, model


def transformers_model(model: ConfigDict) -> Any:
    """transformers' model with the sizes of one of our configs, without its weights."""
    import transformers  # only these pairs need it

    backbone, decoder = model.backbone, model.decoder
    vit: dict[str, Any] = {
        'hidden_size': backbone.embed_dims,
        'num_hidden_layers': backbone.depth,
        'num_attention_heads': backbone.num_heads,
        'patch_size': backbone.patch_size,
        'out_indices': [i + 1 for i in backbone.out_indices],  # 0 is what enters the first block
    }
    common: dict[str, Any] = {
        'num_labels': model.num_classes,
        'num_queries': model.queries.num_queries,
        'decoder_layers': decoder.num_layers,
        'decoder_n_points': decoder.layer.cross_attn.num_points,
        'dropout': 0.0,
    }
    if backbone.get('class_token'):
        vit.update(
            image_size=backbone.grid_size * backbone.patch_size, num_windows=backbone.windows
        )
        common.update(backbone_config=transformers.RfDetrDinov2Config(**vit), layer_norm_eps=1e-6)
        return transformers.RfDetrForObjectDetection(transformers.RfDetrConfig(**common)).eval()
    vit.update(
        pretrain_image_size=backbone.grid_size * backbone.patch_size,
        num_windows=backbone.windows**2,
        window_block_indices=[i for i in range(backbone.depth) if i not in backbone.global_blocks],
    )
    common.update(
        backbone_config=transformers.LwDetrViTConfig(**vit),
        projector_scale_factors=list(model.neck.get('scales', (1.0,))),
    )
    return transformers.LwDetrForObjectDetection(transformers.LwDetrConfig(**common)).eval()

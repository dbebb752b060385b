"""Any variant of the family in the size of the demo: learns the digits set on a CPU in minutes.

Variants become comparable: all have the demo's data, augmentation, batch, schedule and backbone (a
ResNet-18 of half the width, from scratch) and the same width, depth and number of queries. What
makes a variant stays: its attention ops, query positions, references, head, losses and levels.
"""

from __future__ import annotations

from mmengine.config import Config

from ..engine.project import config_path
from .shrinking import ModelSize, shrink

DEMO = 'digits_deformable_detr'
"""The config whose data, schedule and size all small variants share."""
NUM_QUERIES = 30
DECODER_LAYERS = 3
SINGLE = {'num_stages': 3, 'strides': (1, 2, 2), 'dilations': (1, 1, 1)}
SINGLE_STRIDE = 16
"""At stride 32 the map of a picture of 160 pixels has 5 x 5 cells, for up to 5 digits. Variants
that read one map alone get that of the third stage, 10 x 10 cells; the backbone ends there."""
SEVERAL = {'num_stages': 4, 'strides': (1, 2, 2, 2), 'dilations': (1, 1, 1, 1)}


def small(cfg: Config) -> Config:
    """The demo's config with the shrunk model of another config, for boxes on the digits set.

    Optimizer settings of parts other than the backbone stay as published, e.g. the tenth of the
    rate for sampling offsets (:func:`relative_rates`). A mask head stays; what it is trained on must
    then have masks.
    """
    demo = Config.fromfile(config_path(DEMO))
    single = cfg.model.get('num_levels', 1) == 1
    backbone = {k: v for k, v in demo.model.backbone.items() if k != 'type'}
    backbone.update(SINGLE if single else SEVERAL)
    backbone['out_indices'] = cfg.model.backbone.get('out_indices', ())
    if single:  # a mask head reads the maps before the last too
        backbone['out_indices'] = tuple(i - 1 for i in backbone['out_indices'] if i > 0)
    size = ModelSize(
        depths=(demo.model.encoder.num_layers, DECODER_LAYERS),
        backbone=backbone,
        everywhere={
            'hidden_dims': 256,
            'hidden_channels': 64,
            'num_queries': NUM_QUERIES,
            'num_many': 5 * NUM_QUERIES,
            'num_things': 10,
            'out_channels': 64,
        },
        model={
            'embed_dims': demo.model.embed_dims,
            'num_classes': demo.model.num_classes,
            'dropout': 0.0,
            'frozen_parts': (),
        },
    )
    model = shrink(cfg.model, size)
    if model.backbone.type == 'HGNetV2':  # it is trained from scratch
        model.backbone.update(frozen_stages=-1, frozen_norms=False)
    reader = model.decoder.layer.cross_attn
    if reader and reader.get(
        'levels'
    ):  # one for each layer; those that remain are spread as they were
        reader.levels = reader.levels[:: max(len(reader.levels) // DECODER_LAYERS, 1)]
    if single and reader and reader.get('prior'):
        reader.prior.strides = (SINGLE_STRIDE,)
    demo.model = model
    demo.optim_wrapper.paramwise_cfg.custom_keys.update(relative_rates(cfg))
    return demo


def relative_rates(cfg: Config) -> dict[str, dict]:
    """Settings of parts other than the backbone, e.g. ``lr_mult``.

    They hold for AdamW. TSP's are those by which AdamW's rate follows from the much larger one of SGD.
    """
    wrapper = cfg.get('optim_wrapper', {})
    if wrapper.get('optimizer', {}).get('type') != 'AdamW':
        return {}
    keys = wrapper.get('paramwise_cfg', {}).get('custom_keys', {})
    return {part: rate for part, rate in keys.items() if not part.startswith('backbone')}

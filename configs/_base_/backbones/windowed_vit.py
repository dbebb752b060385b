# A plain ViT with windowed blocks, as in LW-DETR: maps of stride 16, joined by the projector.
_base_ = './imagenet_pixels.py'

model = dict(
    data_preprocessor=dict(pad_size_divisor=64),
    backbone=dict(
        type='WindowedViT',
        embed_dims=192,
        depth=10,
        num_heads=12,
        patch_size=16,
        windows=4,
        global_blocks=(2, 4, 5, 8),
        out_indices=(2, 4, 5, 9),
        grid_size=14,
        key_bias=False,
        layer_scale=0.1),
    neck=dict(type='MultiScaleProjector'))

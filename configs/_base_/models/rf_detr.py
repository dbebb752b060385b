# RF-DETR-small: LW-DETR with DINOv2's small ViT, in 2 x 2 windows, and layer norms in the projector.
_base_ = './lw_detr.py'

model = dict(
    layout='rf_detr',
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        embed_dims=384,
        depth=12,
        num_heads=6,
        windows=2,
        global_blocks=(3, 6, 9),
        out_indices=(2, 5, 8, 11),
        grid_size=32,
        class_token=True,
        norm=True,
        key_bias=True,
        layer_scale=1.0,
        antialias=True),
    neck=dict(norm='LN'))

# A plain ViT with rotary position codes as in DINOv3, for `model = dict(backbone=_base_.vit_tiny)`:
# DEIMv2's small one. An adapter makes maps of stride 8, 16 and 32 from three of its blocks.
vit_tiny = dict(
    type='SpatialTuningAdapter',
    vit=dict(
        type='WindowedViT',
        embed_dims=192,
        depth=12,
        num_heads=3,
        patch_size=16,
        windows=1,
        global_blocks=(),
        out_indices=(3, 7, 11),
        grid_size=None,
        class_token=True,
        layer_scale=None))

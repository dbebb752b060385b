# Multi-scale SAM-DETR: deformable encoder over three levels, of which every two decoder layers read a
# finer one: 46.1 AP.
_base_ = './sam_detr_r50.py'

model = dict(
    backbone=dict(out_indices=(1, 2, 3)),
    neck=dict(
        in_channels=[512, 1024, 2048], num_outs=3, norm_cfg=dict(type='GN', num_groups=32)),
    position=dict(level_embed=3),
    encoder=dict(
        layer=dict(
            self_attn=dict(type='DeformableAttention', num_levels=3),
            ffn=dict(type='FeedForward', hidden_dims=1024))),
    decoder=dict(layer=dict(cross_attn=dict(levels=(2, 2, 1, 1, 0, 0)))))

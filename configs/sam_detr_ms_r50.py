# Multi-scale SAM-DETR: deformable encoder over three levels, of which every two decoder layers read a
# finer one: 46.1 AP.
_base_ = './sam_detr_r50.py'

ffn = dict(type='FeedForward', hidden_dims=1024)
model = dict(
    num_levels=3,
    backbone=dict(out_indices=(1, 2, 3)),
    neck=dict(norm_cfg=dict(type='GN', num_groups=32)),
    position=dict(level_embed=True),
    encoder=dict(layer=dict(self_attn=dict(type='DeformableAttention'), ffn=ffn)),
    decoder=dict(layer=dict(cross_attn=dict(levels=(2, 2, 1, 1, 0, 0)))))

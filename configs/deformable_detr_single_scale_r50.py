# Deformable DETR on the last map of the backbone only: 39.4 AP.
_base_ = './deformable_detr_r50.py'

model = dict(
    backbone=dict(out_indices=(3, )),
    neck=dict(in_channels=[2048], num_outs=1),
    position=dict(level_embed=1),
    encoder=dict(layer=dict(self_attn=dict(num_levels=1))),
    decoder=dict(layer=dict(cross_attn=dict(num_levels=1))))

# Deformable DETR on the last map of the backbone only: 39.4 AP.
_base_ = './deformable_detr_r50.py'

model = dict(num_levels=1, backbone=dict(out_indices=(3, )))

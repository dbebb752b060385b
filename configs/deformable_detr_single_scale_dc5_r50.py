# Single-scale Deformable DETR, last stage of the backbone dilated: 41.5 AP.
_base_ = ['./deformable_detr_single_scale_r50.py', './_base_/backbones/dc5.py']

model = dict(backbone=_base_.dc5)

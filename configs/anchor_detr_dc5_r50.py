# Anchor DETR, last stage of the backbone dilated: 44.3 AP.
_base_ = './anchor_detr_r50.py'

model = dict(backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)))

# Anchor DETR, last stage of the backbone dilated: 44.3 AP.
_base_ = ['./anchor_detr_r50.py', './_base_/backbones/dc5.py']

model = dict(backbone=_base_.dc5)

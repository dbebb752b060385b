# DETR with ResNet-101, last stage dilated: 44.9 AP.
_base_ = ['./detr_dc5_r50.py', './_base_/backbones/resnet101.py']

model = dict(backbone=_base_.resnet101)

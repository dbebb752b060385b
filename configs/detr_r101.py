# DETR with ResNet-101: 43.5 AP.
_base_ = ['./detr_r50.py', './_base_/backbones/resnet101.py']

model = dict(backbone=_base_.resnet101)

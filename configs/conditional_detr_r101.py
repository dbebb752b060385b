# Conditional DETR with ResNet-101: 42.8 AP.
_base_ = ['./conditional_detr_r50.py', './_base_/backbones/resnet101.py']

model = dict(backbone=_base_.resnet101)

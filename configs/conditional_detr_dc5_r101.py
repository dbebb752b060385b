# Conditional DETR with ResNet-101, last stage dilated: 45.0 AP.
_base_ = ['./conditional_detr_dc5_r50.py', './_base_/backbones/resnet101.py']

model = dict(backbone=_base_.resnet101)

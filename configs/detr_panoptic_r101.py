# Panoptic DETR with ResNet-101: 45.1 PQ.
_base_ = ['./detr_panoptic_r50.py', './_base_/backbones/resnet101.py']

model = dict(backbone=_base_.resnet101)

# Panoptic DETR with ResNet-101, step 1 of 2: boxes of things and stuff.
_base_ = ['./detr_panoptic_boxes_r50.py', './_base_/backbones/resnet101.py']

model = dict(backbone=_base_.resnet101)

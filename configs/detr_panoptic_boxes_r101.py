# Panoptic DETR with ResNet-101, step 1 of 2: boxes of things and stuff.
_base_ = './detr_panoptic_boxes_r50.py'

model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth')))

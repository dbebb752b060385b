# Panoptic DETR with ResNet-101: 45.1 PQ.
_base_ = './detr_panoptic_r50.py'

model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth')))

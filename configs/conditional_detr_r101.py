# Conditional DETR with ResNet-101: 42.8 AP.
_base_ = './conditional_detr_r50.py'

model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth')))

# Anchor DETR with ResNet-101: 43.5 AP.
_base_ = './anchor_detr_r50.py'

model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth')))

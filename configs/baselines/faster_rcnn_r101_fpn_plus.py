# Faster R-CNN-FPN+ with ResNet-101: 44.0 AP.
_base_ = './faster_rcnn_r50_fpn_plus.py'

model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')))

# TSP-RCNN (arXiv:2011.10881) on ResNet-101.
_base_ = './tsp_rcnn_r50.py'

model = dict(
    backbone=dict(
        depth=101, init_cfg=dict(checkpoint='open-mmlab://detectron2/resnet101_caffe')))

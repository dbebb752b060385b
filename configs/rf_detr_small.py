# RF-DETR-small (arXiv:2511.09554): 53.0 AP at 512 x 512.
_base_ = ['./_base_/models/rf_detr.py', './_base_/coco_12e.py']

model = dict(num_classes=80, backbone=dict(grid_size=32))

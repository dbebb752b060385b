# Panoptic DETR with ResNet-101, step 2 of 2: 25 epochs of the mask head alone, 45.1 PQ.
_base_ = './detr_panoptic_masks_r50.py'

model = dict(backbone=dict(depth=101))
load_from = 'work_dirs/detr_panoptic_boxes_r101/epoch_300.pth'

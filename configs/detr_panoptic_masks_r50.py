# Panoptic DETR, step 2 of 2: 25 epochs of the mask head alone, 43.4 PQ. The detector is the one that
# detr_panoptic_boxes_r50.py trained, in its default work_dir; for another file set load_from.
_base_ = './detr_panoptic_r50.py'

model = dict(
    frozen_parts=['backbone', 'neck', 'encoder', 'queries', 'decoder', 'head'],
    backbone=dict(init_cfg=None))
load_from = 'work_dirs/detr_panoptic_boxes_r50/epoch_300.pth'
train_cfg = dict(max_epochs=25)
param_scheduler = [dict(type='MultiStepLR', milestones=[15], gamma=0.1, by_epoch=True)]

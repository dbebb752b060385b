# SAM-DETR, 12 epochs: 33.1 AP. The short schedule was run with a group norm after the projection.
_base_ = ['./_base_/models/sam_detr.py', './_base_/coco_50e.py']

model = dict(num_classes=80, neck=dict(norm_cfg=dict(type='GN', num_groups=32)))
train_cfg = dict(max_epochs=12)
param_scheduler = [dict(type='MultiStepLR', milestones=[10], gamma=0.1, by_epoch=True)]

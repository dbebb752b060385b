# Data, schedule and runtime: COCO, 12 epochs with the learning rates of Deformable DETR.
_base_ = './coco_deformable_50e.py'

train_cfg = dict(max_epochs=12)
param_scheduler = [dict(type='MultiStepLR', milestones=[11], gamma=0.1, by_epoch=True)]

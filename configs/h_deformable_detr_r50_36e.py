# H-DETR: 50.0 AP after 36 epochs.
_base_ = './h_deformable_detr_r50.py'

train_cfg = dict(max_epochs=36)
param_scheduler = [dict(type='MultiStepLR', milestones=[30], gamma=0.1, by_epoch=True)]

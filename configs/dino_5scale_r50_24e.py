# DINO, 5 levels: 51.3 AP after 24 epochs.
_base_ = './dino_5scale_r50.py'

train_cfg = dict(max_epochs=24)
param_scheduler = [dict(type='MultiStepLR', milestones=[20], gamma=0.1, by_epoch=True)]

# DINO, 4 levels: 50.4 AP after 24 epochs.
_base_ = './dino_r50.py'

train_cfg = dict(max_epochs=24)
param_scheduler = [dict(type='MultiStepLR', milestones=[20], gamma=0.1, by_epoch=True)]

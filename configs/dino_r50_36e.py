# DINO, 4 levels: 50.9 AP after 36 epochs.
_base_ = './dino_r50.py'

train_cfg = dict(max_epochs=36)
param_scheduler = [dict(type='MultiStepLR', milestones=[30], gamma=0.1, by_epoch=True)]

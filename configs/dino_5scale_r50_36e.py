# DINO, 5 levels: 51.2 AP after 36 epochs.
_base_ = './dino_5scale_r50.py'

train_cfg = dict(max_epochs=36)
param_scheduler = [dict(type='MultiStepLR', milestones=[30], gamma=0.1, by_epoch=True)]

_base_ = './detr_500e.py'

train_cfg = dict(max_epochs=300)
param_scheduler = [dict(type='MultiStepLR', milestones=[200], gamma=0.1, by_epoch=True)]

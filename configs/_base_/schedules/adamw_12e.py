_base_ = './adamw.py'

train_cfg = dict(max_epochs=12)
param_scheduler = [dict(type='MultiStepLR', milestones=[11], gamma=0.1, by_epoch=True)]
auto_scale_lr = dict(base_batch_size=16)

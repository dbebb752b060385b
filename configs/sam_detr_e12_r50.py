# SAM-DETR, 12 epochs: 33.1 AP. The short schedule was run with a group norm after the projection.
_base_ = './sam_detr_r50.py'

model = dict(
    neck=dict(
        norm_cfg=dict(type='GN', num_groups=32),
        init_cfg=dict(_delete_=True, type='Xavier', layer='Conv2d', distribution='uniform')))
train_cfg = dict(max_epochs=12)
param_scheduler = [dict(type='MultiStepLR', milestones=[10], gamma=0.1, by_epoch=True)]

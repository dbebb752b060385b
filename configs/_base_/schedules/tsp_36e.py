# SGD, but AdamW at 1e-4 for the layers of the transformer, whose gradients alone are clipped.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

train_cfg = dict(max_epochs=36)
optim_wrapper = dict(
    type='mmdetr_plugin.PartialClipWrapper',
    constructor='mmdetr_plugin.AdamWPartsConstructor',
    optimizer=dict(type='mmdetr_plugin.SGDWithAdamW', momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    paramwise_cfg=dict(adamw=('decoder', ), norm_decay_mult=0.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', milestones=[24, 32], gamma=0.1, by_epoch=True),
]
auto_scale_lr = dict(base_batch_size=16)

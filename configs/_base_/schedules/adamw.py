# AdamW with the backbone at a tenth of the rate, one drop by 10, gradients clipped to 0.1.
# A config states `param_scheduler[0].milestones`, `train_cfg.max_epochs` and the base batch.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

optim_wrapper = dict(
    _delete_=True,
    type='mmdetr_plugin.FiniteOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}))

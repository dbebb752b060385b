# From published weights on data of one's own, at most half of the rate that these were trained with,
# for eight images a step: raised over the first epoch, divided by 10 before the last one.
_base_ = './adamw.py'

train_cfg = dict(max_epochs=12)
optim_wrapper = dict(optimizer=dict(lr=5e-5), accumulative_counts=2)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[11], gamma=0.1, by_epoch=True),
]
auto_scale_lr = dict(base_batch_size=8)

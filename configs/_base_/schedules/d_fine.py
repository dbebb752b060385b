# D-FINE: the rate is raised over the first 500 steps. A config states the rates, and adds to
# `custom_hooks` what changes before the end: `switch` and `restart`.
_base_ = './real_time.py'

param_scheduler = [dict(type='LinearLR', start_factor=0.002, by_epoch=False, end=500)]
average = dict(gamma=1000)
auto_scale_lr = dict(base_batch_size=32)
switch = dict(type='mmdet.PipelineSwitchHook')
restart = dict(type='mmdetr_plugin.RestartFromBestHook')

# D-FINE: the rate is raised over the first 500 steps. A config states the rates, and adds to
# `custom_hooks` what changes before the end: `switch` and `restart`.
_base_ = './real_time.py'

param_scheduler = [dict(type='LinearLR', start_factor=0.002, by_epoch=False, end=500)]
average = dict(gamma=1000)
auto_scale_lr = dict(base_batch_size=32)
switch = dict(type='mmdet.PipelineSwitchHook')
restart = dict(type='mmdetr_plugin.RestartFromBestHook')
# How often a batch keeps its size depends on the model: `dict(multi_scale, augment=sized['m'])`.
_times = dict(s=20, m=6, l=4, x=3)
sized = {
    size: dict(
        type='mmdetr_plugin.BatchRandomResize',
        sizes=[*range(480, 640, 32), *[640] * times, *range(672, 832, 32)])
    for size, times in _times.items()
}
multi_scale = dict(augment=sized['s'])

# RT-DETRv2 (arXiv:2407.17140) on ResNet-50-vd, "L": 53.4 AP after 72 epochs, with `--amp`. The last one
# has neither strong augmentation nor pictures of several sizes.
_base_ = './rt_detr_r50.py'

model = dict(layout='rt_detr_v2')
param_scheduler = [dict(type='LinearLR', start_factor=5e-4, by_epoch=False, begin=0, end=2000)]
_plain = 71
custom_hooks = [
    *_base_.custom_hooks[:-1],
    dict(_base_.multi_scale, end=_plain),
    dict(_base_.switch_to_plain, switch_epoch=_plain),
]

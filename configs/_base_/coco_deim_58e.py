# Data, schedule and runtime of DEIM: COCO at 640 x 640, 58 epochs, the last 8 as when detecting.
_base_ = ['./datasets/dense_augmentation.py', './schedules/deim.py']

_dense, _flat, _stop = 4, 29, 50
train_cfg = dict(max_epochs=58)
param_scheduler = [
    _base_.warmup,
    dict(
        type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, eta_min_ratio=0.5,
        begin=_flat, end=_stop, T_max=_stop - _flat),
]
custom_hooks = [
    *_base_.custom_hooks,
    _base_.average,
    dict(_base_.multi_scale, end=_stop),
    dict(_base_.mixup, begin=_dense, end=_flat),
    dict(_base_.switch, switch_epoch=_dense, switch_pipeline=_base_.dense_pipeline),
    dict(_base_.switch, switch_epoch=_flat, switch_pipeline=_base_.strong_pipeline),
    dict(_base_.switch, switch_epoch=_stop, switch_pipeline=_base_.plain_pipeline),
    dict(_base_.restart, begin=_stop),
]

# Data, schedule and runtime: COCO in squares, 100 epochs; batches of several sizes; averaged weights
# are evaluated and saved.
_base_ = ['./datasets/coco_square.py', './schedules/rf_detr_100e.py', './default_runtime.py']

average = dict(
    type='EMAHook', ema_type='mmdet.ExpMomentumEMA', momentum=0.007, gamma=100,
    update_buffers=True)
custom_hooks = [*_base_.custom_hooks, average, _base_.multi_scale]

# Data, schedule and runtime: COCO in squares, 60 epochs; averaged weights are evaluated and saved.
_base_ = ['./datasets/coco_squares.py', './schedules/lw_detr_60e.py', './default_runtime.py']

custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=3e-4, update_buffers=True)]

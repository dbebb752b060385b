# Data, schedule and runtime of D-FINE: COCO at 640 x 640, 132 epochs, the last 12 as when detecting.
_base_ = ['./datasets/coco_real_time.py', './schedules/d_fine.py']

train_cfg = dict(max_epochs=132)
_plain = dict(_base_.switch, switch_epoch=120, switch_pipeline=_base_.plain_pipeline)
custom_hooks = [*_base_.custom_hooks, _base_.average, dict(_base_.multi_scale, end=120), _plain]
custom_hooks = [*custom_hooks, dict(_base_.restart, begin=120)]

# Data, schedule and runtime of RT-DETR: COCO at 640 x 640, 72 epochs.
_base_ = ['./datasets/coco_real_time.py', './schedules/real_time.py']

train_cfg = dict(max_epochs=72)
custom_hooks = [*_base_.custom_hooks, _base_.average, _base_.multi_scale]

# Data, schedule and runtime: data of one's own at 640 x 640, 50 epochs from published weights.
_base_ = [
    './datasets/custom_real_time.py', './schedules/finetune_50e.py', './schedules/average.py',
    './default_runtime.py'
]

optim_wrapper = _base_.no_decay
custom_hooks = [*_base_.custom_hooks, _base_.average]

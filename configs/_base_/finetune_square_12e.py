# Data, schedule and runtime: data of one's own in squares, 12 epochs from published weights.
_base_ = [
    './datasets/custom_square.py', './schedules/finetune_12e.py', './schedules/vit_rates.py',
    './default_runtime.py']

optim_wrapper = _base_.vit_rates
custom_hooks = [*_base_.custom_hooks, _base_.multi_scale]

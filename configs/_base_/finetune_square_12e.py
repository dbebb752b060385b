# Data, schedule and runtime: data of one's own in squares, 12 epochs from published weights.
_base_ = ['./datasets/custom_square.py', './schedules/finetune_vit_12e.py', './default_runtime.py']

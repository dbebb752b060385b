# Data, schedule and runtime: data of one's own in squares, 50 epochs from published weights.
_base_ = ['./datasets/custom_square.py', './schedules/finetune_vit_50e.py', './default_runtime.py']

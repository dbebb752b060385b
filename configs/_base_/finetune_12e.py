# Data, schedule and runtime: data of one's own, 12 epochs from published weights.
_base_ = ['./datasets/custom_detection.py', './schedules/finetune_12e.py', './default_runtime.py']

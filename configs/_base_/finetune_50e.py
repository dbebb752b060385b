# Data, schedule and runtime: data of one's own, 50 epochs from published weights.
_base_ = ['./datasets/custom_detection.py', './schedules/finetune_50e.py', './default_runtime.py']

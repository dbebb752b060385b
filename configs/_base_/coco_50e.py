# Data, schedule and runtime: COCO, 50 epochs.
_base_ = ['./datasets/coco_detection.py', './schedules/adamw_50e.py', './default_runtime.py']

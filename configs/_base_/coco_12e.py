# Data, schedule and runtime: COCO, 12 epochs.
_base_ = ['./datasets/coco_detection.py', './schedules/adamw_12e.py', './default_runtime.py']

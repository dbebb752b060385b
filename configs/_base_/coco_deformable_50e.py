# Data, schedule and runtime: COCO, 50 epochs with the learning rates of Deformable DETR.
_base_ = ['./datasets/coco_detection.py', './schedules/deformable_50e.py', './default_runtime.py']

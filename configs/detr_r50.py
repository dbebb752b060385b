# DETR (arXiv:2005.12872): 42.0 AP after 500 epochs.
_base_ = [
    './_base_/models/detr.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/detr_500e.py',
    './_base_/default_runtime.py',
]

model = dict(num_classes=80)

# Panoptic DETR, step 1 of 2: boxes of things and stuff. 300 epochs as in the official README.
_base_ = [
    './_base_/models/detr.py',
    './_base_/datasets/coco_panoptic_boxes.py',
    './_base_/schedules/detr_300e.py',
    './_base_/default_runtime.py',
]

model = dict(num_classes=133)

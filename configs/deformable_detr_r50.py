# Deformable DETR (arXiv:2010.04159): 44.5 AP after 50 epochs.
_base_ = [
    './_base_/models/deformable_detr.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/deformable_50e.py',
    './_base_/default_runtime.py',
]

model = dict(num_classes=80)

# DAB-DETR (arXiv:2201.12329): 42.2 AP after 50 epochs.
_base_ = [
    './_base_/models/dab_detr.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/adamw_50e.py',
    './_base_/default_runtime.py',
]

model = dict(num_classes=80)

# Two-stage Deformable DETR: queries selected from the encoder's proposals, 46.9 AP.
_base_ = [
    './_base_/models/deformable_detr_two_stage.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/deformable_50e.py',
    './_base_/default_runtime.py',
]

model = dict(num_classes=80)

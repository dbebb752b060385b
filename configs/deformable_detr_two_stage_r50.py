# Two-stage Deformable DETR: queries selected from the encoder's proposals, 46.9 AP.
_base_ = ['./_base_/models/deformable_detr_two_stage.py', './_base_/coco_deformable_50e.py']

model = dict(num_classes=80)

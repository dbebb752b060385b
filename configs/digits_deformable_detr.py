# A small two-stage Deformable DETR for the embedded digits.
_base_ = [
    './_base_/models/deformable_detr_two_stage.py',
    './_base_/models/digits_size.py',
    './_base_/digits_4e.py',
]

model = _base_.digits_size

# Group DETR (arXiv:2207.13085) on Conditional DETR, 12 epochs.
_base_ = ['./_base_/models/conditional_detr.py', './_base_/coco_12e.py']

model = dict(num_classes=80, branches=[dict(type='GroupQueries', groups=11)])

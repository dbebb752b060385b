# Group DETR on DAB-DETR.
_base_ = ['./_base_/models/dab_detr.py', './_base_/coco_12e.py']

model = dict(num_classes=80, branches=[dict(type='GroupQueries', groups=11)])

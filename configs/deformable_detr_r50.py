# Deformable DETR (arXiv:2010.04159): 44.5 AP after 50 epochs.
_base_ = ['./_base_/models/deformable_detr.py', './_base_/coco_deformable_50e.py']

model = dict(num_classes=80)

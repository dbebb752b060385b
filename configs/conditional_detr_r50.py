# Conditional DETR (arXiv:2108.06152): 41.0 AP after 50 epochs.
_base_ = ['./_base_/models/conditional_detr.py', './_base_/coco_50e.py']

model = dict(num_classes=80)

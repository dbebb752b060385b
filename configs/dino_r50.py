# DINO (arXiv:2203.03605), 4 levels: 49.0 AP after 12 epochs.
_base_ = ['./_base_/models/dino.py', './_base_/coco_12e.py']

model = dict(num_classes=80)

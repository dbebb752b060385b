# DAB-DETR (arXiv:2201.12329): 42.2 AP after 50 epochs.
_base_ = ['./_base_/models/dab_detr.py', './_base_/coco_50e.py']

model = dict(num_classes=80)

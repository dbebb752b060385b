# SMCA (arXiv:2101.07448): Gaussians around predicted points weigh cross-attention, 41.0 AP.
_base_ = ['./_base_/models/smca_detr.py', './_base_/coco_50e.py']

model = dict(num_classes=80)

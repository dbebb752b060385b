# D-FINE-S (arXiv:2410.13842): 48.5 AP after 132 epochs.
_base_ = ['./_base_/models/d_fine_s.py', './_base_/coco_rt_detr_72e.py']

model = dict(num_classes=80)

# SAM-DETR (arXiv:2203.06883): 39.8 AP after 50 epochs.
_base_ = ['./_base_/models/sam_detr.py', './_base_/coco_50e.py']

model = dict(
    num_classes=80,
    neck=dict(init_cfg=None))  # torch's own initial values, as in DETR
